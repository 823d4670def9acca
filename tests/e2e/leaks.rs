//! Looks for secrets in whatever the daemon left anywhere, in every writing that one could have come
//! out in. Finds them at any place, also inside of something larger that was encoded as a whole.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use x509_parser::pem::Pem;

use crate::process::Outcome;
use crate::site::text;

/// How many bytes decide where a needle may begin. No needle is shorter.
const BEGINNING: usize = 8;
/// What is decoded is looked through for more that can be, so often.
const LAYERS: usize = 3;
/// Shorter runs of base64 are words.
const RUN_CHARS_MIN: usize = 32;

/// A secret in one of its writings.
struct Needle {
    what: String,
    bytes: Vec<u8>,
}

/// All that is looked for.
#[derive(Default)]
pub(crate) struct Search {
    needles: Vec<Needle>,
    by_beginning: HashMap<Vec<u8>, Vec<usize>>,
    /// Whole secrets.
    pub(crate) secrets: usize,
    /// Bytes looked through, decoded ones included.
    pub(crate) bytes: usize,
}

impl Search {
    /// Looks for what marks a private key, and whatever is added.
    pub(crate) fn new() -> Search {
        let mut search = Search::default();
        search.add("a private key's PEM", "marker", b"PRIVATE KEY".to_vec());
        search
    }

    pub(crate) fn needles(&self) -> usize {
        self.needles.len()
    }

    fn add(&mut self, what: &str, writing: &str, bytes: Vec<u8>) {
        assert!(
            bytes.len() >= BEGINNING,
            "{what} as {writing} is too short to be told from chance"
        );
        let beginning = bytes[..BEGINNING].to_vec();
        self.by_beginning.entry(beginning).or_default().push(self.needles.len());
        self.needles.push(Needle { what: format!("{what} as {writing}"), bytes });
    }

    /// Looks for bytes that nobody may see.
    pub(crate) fn bytes(&mut self, what: &str, secret: &[u8]) {
        self.secrets += 1;
        self.add(what, "bytes", secret.to_vec());
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.add(what, "upper hexadecimal", hex.to_uppercase().into_bytes());
        self.add(what, "hexadecimal", hex.into_bytes());
        let debug = format!("{secret:?}");
        self.add(what, "numbers", debug.trim_matches(['[', ']']).as_bytes().to_vec());
        for (name, engine) in [("base64", STANDARD), ("base64url", URL_SAFE_NO_PAD)] {
            for shift in 0..3 {
                let writing = format!("{name}, {shift} bytes off");
                self.add(what, &writing, shifted(&engine, secret, shift));
            }
        }
    }

    /// Looks for a password: also as it stands in a URL.
    pub(crate) fn password(&mut self, what: &str, password: &str, in_url: &str) {
        self.bytes(what, password.as_bytes());
        if in_url != password {
            self.add(what, "part of a URL", in_url.as_bytes().to_vec());
        }
        let quoted = format!("{password:?}");
        let quoted = &quoted[1..quoted.len() - 1];
        if quoted != password {
            self.add(what, "part of a text in quotes", quoted.as_bytes().to_vec());
        }
    }

    /// Looks for the private key of a PEM file.
    pub(crate) fn key(&mut self, what: &str, pem: &str) -> Outcome {
        let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(pem.as_bytes()).collect();
        let blocks = blocks.map_err(text)?;
        let block = blocks.iter().find(|block| block.label.contains("PRIVATE KEY"));
        let der = &block.ok_or(format!("{what} holds no key"))?.contents;
        let private = private_number(der).ok_or(format!("{what} holds no EC key"))?;
        self.bytes(what, &der[private.clone()]);
        // The lines of the file that have a part of it; the others hold what is public.
        let lines = der.chunks(48).enumerate();
        for (index, line) in lines.filter(|(index, line)| {
            let (begin, end) = (index * 48, index * 48 + line.len());
            begin < private.end && private.start < end
        }) {
            self.add(what, &format!("line {index} of its PEM"), STANDARD.encode(line).into_bytes());
        }
        Ok(())
    }

    /// What was found, each once, in what was left and in what can be decoded of that.
    pub(crate) fn look(&mut self, left: &[u8]) -> Vec<String> {
        let mut layer = left.to_vec();
        let mut found = Vec::new();
        for _ in 0..=LAYERS {
            self.bytes += layer.len();
            found.extend(self.look_at(&layer));
            layer = decoded(&layer);
        }
        found.sort();
        found.dedup();
        found
    }

    fn look_at(&self, left: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for (start, beginning) in left.windows(BEGINNING).enumerate() {
            for index in self.by_beginning.get(beginning).into_iter().flatten() {
                let Needle { what, bytes } = &self.needles[*index];
                if left[start..].starts_with(bytes) {
                    found.push(what.clone());
                }
            }
        }
        found
    }
}

/// The characters that follow from a secret alone when so many bytes stand before it.
fn shifted(engine: &GeneralPurpose, secret: &[u8], shift: usize) -> Vec<u8> {
    let text = engine.encode([&vec![0; shift], secret].concat());
    let (first, end) = ((shift * 8).div_ceil(6), (shift + secret.len()) * 8 / 6);
    text.as_bytes()[first..end].to_vec()
}

/// All in it that can be decoded.
fn decoded(left: &[u8]) -> Vec<u8> {
    [from_base64(left), from_numbers(left), from_hexadecimal(left)].concat()
}

/// Every list of numbers in it, as `Debug` writes bytes.
fn from_numbers(left: &[u8]) -> Vec<u8> {
    let fits = |byte: &u8| byte.is_ascii_digit() || b", ".contains(byte);
    let runs = left.split(|byte| !fits(byte)).filter(|run| run.len() >= RUN_CHARS_MIN);
    let items = runs.flat_map(|run| run.split(|byte| *byte == b','));
    let number = |item: &[u8]| str::from_utf8(item).ok()?.trim().parse().ok();
    items.map(|item| number(item).unwrap_or(b'\n')).collect()
}

/// Every run of hexadecimal in it.
fn from_hexadecimal(left: &[u8]) -> Vec<u8> {
    let runs = left.split(|byte| !byte.is_ascii_hexdigit());
    let runs = runs.filter(|run| run.len() >= RUN_CHARS_MIN);
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    let pairs = runs.flat_map(|run| [run, &run[1..]]).flat_map(|run| run.chunks_exact(2));
    pairs.map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Every run of base64 or base64url in it.
fn from_base64(left: &[u8]) -> Vec<u8> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient);
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+/".contains(byte);
    let runs = left.split(|byte| !fits(byte)).filter(|run| run.len() >= RUN_CHARS_MIN);
    let mut all = Vec::new();
    for run in runs {
        let run: Vec<u8> = run
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        let whole = if run.len() % 4 == 1 { run.len() - 1 } else { run.len() };
        all.extend(engine.decode(&run[..whole]).unwrap_or_default());
        all.push(b'\n');
    }
    all
}

/// Where the private number of an EC key stands in its DER: version 1, then an octet string (RFC 5915
/// section 3).
fn private_number(der: &[u8]) -> Option<std::ops::Range<usize>> {
    [32_u8, 48].into_iter().find_map(|length| {
        let head = [0x02, 0x01, 0x01, 0x04, length];
        let at = der.windows(head.len()).position(|window| window == head)? + head.len();
        Some(at..at + usize::from(length))
    })
}

/// Whether the search finds what it should, however it is written, and nothing where nothing is.
pub(crate) fn can_find() -> Outcome {
    let secret: Vec<u8> = (0..32_u8).map(|index| index.wrapping_mul(7).wrapping_add(130)).collect();
    let (password, in_url) = ("a p\u{e4}ss: w\"rd/", "a%20p%C3%A4ss%3A%20w%22rd%2F");
    let key = rcgen::KeyPair::generate().map_err(text)?;
    let pem = key.serialize_pem();
    let lines: Vec<&str> = pem.lines().collect();
    let mut search = Search::new();
    search.bytes("the secret", &secret);
    search.password("the password", password, in_url);
    search.key("the key", &pem)?;
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut planted: Vec<Vec<u8>> = vec![
        secret.clone(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        format!("{:?}", [b"x", &secret[..], b"y"].concat()).into_bytes(),
        password.into(),
        in_url.into(),
        format!("{:?}", format!("with {password} in it")).into_bytes(),
        lines[1].into(),
        lines[2].into(),
        pem.clone().into_bytes(),
        STANDARD.encode(key.serialized_der()).into_bytes(),
        URL_SAFE_NO_PAD.encode(STANDARD.encode(key.serialized_der())).into_bytes(),
        format!("{:?}", pem.as_bytes()).into_bytes(),
        format!("a{}", lines[1].bytes().map(|byte| format!("{byte:02X}")).collect::<String>())
            .into(),
        format!("Basic {}", STANDARD.encode(format!("user:{password}"))).into_bytes(),
    ];
    for before in ["", "a", "ab", "abc", "abcd"] {
        for engine in [STANDARD, URL_SAFE_NO_PAD] {
            planted.push(engine.encode([before.as_bytes(), &secret, b"z"].concat()).into_bytes());
        }
    }
    let noise: Vec<u8> = (0..5000_u32).map(|number| (number * number % 251) as u8).collect();
    for plant in &planted {
        let field = [&noise[..], b" \"", plant, b"\" ", &noise].concat();
        if search.look(&field).is_empty() {
            return Err(format!("not found: {}", String::from_utf8_lossy(plant)));
        }
    }
    let public = key.public_key_raw();
    let harmless = [&noise[..], STANDARD.encode(public).as_bytes(), lines[3].as_bytes()].concat();
    let found = search.look(&harmless);
    if found.is_empty() { Ok(()) } else { Err(format!("found where there is none: {found:?}")) }
}
