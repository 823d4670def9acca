//! `state.json` while it is read: of very many certificates some are read in each iteration, so that
//! challenges are answered in between. What is read of it counts only once all of it is well-formed.

use std::collections::BTreeMap;

use serde_json::{Deserializer, Map, Value};

use crate::daemon::model::CertificateState;
use crate::domain::Domain;

use super::{Damaged, SavedState, read_certificate, read_head};

const CERTIFICATES: &str = "certificates";

/// The text, and what is read of it.
#[derive(Debug)]
pub struct StateReader {
    bytes: Vec<u8>,
    at: usize,
    place: Place,
    /// All members but the certificates.
    head: Map<String, Value>,
    certificates: BTreeMap<Domain, CertificateState>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// Among the members, before the next one or the end.
    Members,
    /// Among the certificates, likewise.
    Certificates,
    End,
}

impl StateReader {
    /// Nothing is read yet.
    pub fn new(bytes: Vec<u8>) -> StateReader {
        let (head, certificates) = (Map::new(), BTreeMap::new());
        StateReader { bytes, at: 0, place: Place::Start, head, certificates }
    }

    /// Reads so many members or certificates; whether that was all.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn read(&mut self, count: usize) -> Result<bool, Damaged> {
        for _ in 0..count {
            match self.place {
                Place::Start => {
                    self.take(b'{')?;
                    self.begin(Place::Members, Place::End)?;
                }
                Place::Members => self.member()?,
                Place::Certificates => {
                    let (name, value) = (self.key()?, self.value()?);
                    if let Ok(name) = Domain::parse(&name) {
                        self.certificates.insert(name, read_certificate(&value));
                    }
                    self.go_on(Place::Members)?;
                    if self.place == Place::Members {
                        self.go_on(Place::End)?;
                    }
                }
                Place::End => {
                    let is_over = self.peek().is_none();
                    return if is_over { Ok(true) } else { Err(Damaged) };
                }
            }
        }
        Ok(false)
    }

    /// All that was read.
    ///
    /// # Errors
    /// It is of no known version.
    pub fn finish(self) -> Result<SavedState, Damaged> {
        let head = read_head(&self.head)?;
        Ok(SavedState { certificates: self.certificates, ..head })
    }

    fn member(&mut self) -> Result<(), Damaged> {
        let key = self.key()?;
        if key == CERTIFICATES && self.peek() == Some(b'{') {
            self.take(b'{')?;
            self.begin(Place::Certificates, Place::Members)?;
            if self.place == Place::Certificates {
                return Ok(());
            }
        } else {
            let value = self.value()?;
            self.head.insert(key, value);
        }
        self.go_on(Place::End)
    }

    /// Behind the opening brace: inside, or, when there is nothing, behind the closing one.
    fn begin(&mut self, inside: Place, behind: Place) -> Result<(), Damaged> {
        self.place = inside;
        if self.peek() == Some(b'}') {
            self.take(b'}')?;
            self.place = behind;
        }
        Ok(())
    }

    /// Behind a member: before the next one, or behind the closing brace.
    fn go_on(&mut self, behind: Place) -> Result<(), Damaged> {
        if self.peek() == Some(b',') {
            return self.take(b',');
        }
        self.take(b'}')?;
        self.place = behind;
        Ok(())
    }

    fn key(&mut self) -> Result<String, Damaged> {
        let Value::String(key) = self.value()? else { return Err(Damaged) };
        self.take(b':')?;
        Ok(key)
    }

    /// The next value, whatever follows it.
    fn value(&mut self) -> Result<Value, Damaged> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut values = Deserializer::from_slice(rest).into_iter::<Value>();
        let value = values.next().and_then(Result::ok).ok_or(Damaged)?;
        self.at += values.byte_offset();
        Ok(value)
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += spaces.count();
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Result<(), Damaged> {
        let found = self.peek().filter(|byte| *byte == expected);
        self.at += 1;
        found.map(drop).ok_or(Damaged)
    }
}
