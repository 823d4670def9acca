//! DER (X.690 section 10) as far as a certificate needs it: bytes in, elements out. Never looks into
//! a value, never copies one, and never recurses.

/// The tags of a certificate's parts, as their one byte.
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The low bits of a tag whose number does not fit into them: no certificate has one.
const LONG_TAG: u8 = 0x1f;
/// The bits of a tag that say whose type it is, and whether it holds other elements.
const CLASS_AND_FORM: u8 = 0xe0;
/// The longest length, in bytes: no certificate is longer than what they can say.
const LENGTH_BYTES_MAX: usize = 4;

/// A row of elements, read from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

/// A tag and what stands under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) value: &'a [u8],
}

impl Element<'_> {
    /// Whether it is of one of the types that ASN.1 itself has, and holds no other elements.
    pub(super) fn is_universal(self) -> bool {
        self.tag & CLASS_AND_FORM == 0
    }
}

impl<'a> Elements<'a> {
    /// What the value of a sequence or set holds, or a whole message.
    pub(super) fn of(bytes: &'a [u8]) -> Elements<'a> {
        Elements(bytes)
    }

    /// Whether there is nothing more.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next element; `None` where the bytes are none.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        if tag & LONG_TAG == LONG_TAG {
            return None;
        }
        let (length, rest) = length(rest)?;
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag: *tag, value })
    }

    /// All the bytes of the next element, its tag and its length included.
    pub(super) fn whole(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.next()?;
        before.get(..before.len() - self.0.len())
    }

    /// What stands under the next element, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|element| element.tag == tag).map(|element| element.value)
    }

    /// Passes over the next element when it has this tag.
    pub(super) fn skip(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) { self.next().map(drop) } else { Some(()) }
    }

    /// All the elements that are left; `None` where one is malformed.
    pub(super) fn all(mut self) -> Option<Vec<Element<'a>>> {
        let mut all = Vec::new();
        while !self.is_empty() {
            all.push(self.next()?);
        }
        Some(all)
    }
}

/// A length in its one shortest form, and what stands behind it (X.690 section 10.1).
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    if digits.len() > LENGTH_BYTES_MAX || *digits.first()? == 0 {
        return None;
    }
    let length = digits.iter().fold(0, |length, digit| length << 8 | u64::from(*digit));
    let length = usize::try_from(length).ok()?;
    (length >= 0x80).then_some((length, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Option<(u8, usize)> {
        Elements::of(bytes).next().map(|element| (element.tag, element.value.len()))
    }

    #[test]
    fn lengths_have_one_form() {
        let long = [&[SEQUENCE, 0x81, 0x80][..], &[0; 0x80]].concat();
        assert_eq!(first(&long), Some((SEQUENCE, 0x80)));
        assert_eq!(first(&[INTEGER, 0]), Some((INTEGER, 0)));
        assert_eq!(first(&[INTEGER, 1, 7, 8]), Some((INTEGER, 1)));
        let none: [&[u8]; 8] = [
            &[],
            &[INTEGER],
            &[INTEGER, 2, 7],
            &[INTEGER, 0x81, 1, 7],
            &[SEQUENCE, 0x80, 0, 0],
            &[0xbf, 0x21, 1, 7],
            &[&[SEQUENCE, 0x82, 0, 0x80][..], &[0; 0x80]].concat(),
            &[SEQUENCE, 0xff],
        ];
        for bytes in none {
            assert_eq!(first(bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn no_length_is_so_large_that_it_wraps() {
        for digits in 1..=16 {
            let bytes = [&[INTEGER, 0x80 | digits][..], &vec![0xff; digits.into()]].concat();
            assert_eq!(first(&bytes), None, "{digits}");
        }
    }

    #[test]
    fn a_row_is_read_to_its_end_or_not_at_all() {
        let row = [BOOLEAN, 1, 0xff, SET, 0, OCTET_STRING, 2, 1, 2];
        let tags = |bytes: &[u8]| -> Option<Vec<u8>> {
            Some(Elements::of(bytes).all()?.iter().map(|element| element.tag).collect())
        };
        assert_eq!(tags(&row), Some(vec![BOOLEAN, SET, OCTET_STRING]));
        assert_eq!(tags(&row[..row.len() - 1]), None);
        let mut elements = Elements::of(&row);
        assert_eq!(elements.skip(SET), Some(()));
        assert_eq!(elements.skip(BOOLEAN), Some(()));
        assert_eq!(elements.expect(SET), Some(&[][..]));
        assert_eq!(elements.expect(SET), None);
        let mut elements = Elements::of(&row);
        assert_eq!((elements.whole(), elements.whole()), (Some(&row[..3]), Some(&row[3..5])));
        assert_eq!((elements.whole(), elements.whole()), (Some(&row[5..]), None));
    }
}
