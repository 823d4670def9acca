//! What must survive a restart: `state.json`. Losing it costs no certificate.
//! Pure: text in, text out.

use serde_json::{Value, json};

/// The version of the format written.
const VERSION: u64 = 1;

/// The daemon's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// A certificate was written, and not every load balancer has acknowledged a reload since.
    pub reload_owed: bool,
}

/// `state.json` is not what this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Memory {
    /// Reads `state.json`. Unknown members are passed over.
    ///
    /// # Errors
    /// It is no JSON object of a known version.
    pub fn parse(bytes: &[u8]) -> Result<Memory, Damaged> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| Damaged)?;
        if value.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(Damaged);
        }
        let reload_owed = value.get("reload_owed").and_then(Value::as_bool).ok_or(Damaged)?;
        Ok(Memory { reload_owed })
    }

    /// The content of `state.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = json!({"version": VERSION, "reload_owed": self.reload_owed}).to_string();
        text.push('\n');
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for reload_owed in [false, true] {
            let memory = Memory { reload_owed };
            assert_eq!(Memory::parse(&memory.to_bytes()), Ok(memory));
        }
    }

    #[test]
    fn damage_is_seen() {
        let whole = Memory { reload_owed: true }.to_bytes();
        for end in 0..whole.len() - 2 {
            assert_eq!(Memory::parse(&whole[..end]), Err(Damaged), "{end} bytes");
        }
        assert_eq!(Memory::parse(br#"{"version":2,"reload_owed":true}"#), Err(Damaged));
        assert_eq!(Memory::parse(br#"{"version":1,"reload_owed":1}"#), Err(Damaged));
    }
}
