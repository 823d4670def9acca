//! `Link` fields (RFC 8288), as far as a certificate's alternate chains need them: fields in, URLs out.
//! What is malformed is skipped, never fatal.

use crate::http::Headers;
use crate::url::Url;

use super::types;

/// The targets of all links of the relation `alternate`, in their order, each once, resolved against
/// `base`, which itself is none.
pub fn alternates(headers: &Headers, base: &Url) -> Vec<Url> {
    let mut found = Vec::new();
    for field in headers.all("link") {
        for link in links(field).into_iter().filter(|link| link.is("alternate")) {
            if let Some(url) = resolve(base, link.target)
                && url != *base
                && !found.contains(&url)
            {
                found.push(url);
            }
        }
    }
    found
}

/// One link of a field.
#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    target: &'a str,
    /// Relation types, separated by white space.
    rel: String,
}

impl Link<'_> {
    fn is(&self, relation: &str) -> bool {
        self.rel.split_ascii_whitespace().any(|each| each.eq_ignore_ascii_case(relation))
    }
}

/// The links of a field: `<target>; name=value; name="value", <target> …` (section 3).
fn links(field: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let mut rest = field;
    while let Some((_, from_target)) = rest.split_once('<') {
        let Some((target, parameters)) = from_target.split_once('>') else { break };
        let (rel, behind) = relation(parameters);
        links.push(Link { target: target.trim(), rel: rel.unwrap_or_default() });
        rest = behind;
    }
    links
}

/// The value of the first `rel`, since further ones do not count (section 3.3), and what stands behind
/// the link.
fn relation(parameters: &str) -> (Option<String>, &str) {
    let mut rel = None;
    let mut rest = parameters;
    loop {
        let (name, behind) = rest.split_at(rest.find(['=', ';', ',']).unwrap_or(rest.len()));
        let (value, behind) = match behind.strip_prefix('=') {
            Some(value) => read_value(value),
            None => (String::new(), behind),
        };
        if rel.is_none() && name.trim().eq_ignore_ascii_case("rel") {
            rel = Some(value);
        }
        let end = behind.find([';', ',']).unwrap_or(behind.len());
        match behind[end..].strip_prefix(';') {
            Some(next) => rest = next,
            None => return (rel, &behind[end..]),
        }
    }
}

/// A token or a quoted string (RFC 9110 section 5.6.4), and what stands behind it.
fn read_value(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, rest) = text.split_at(text.find([';', ',']).unwrap_or(text.len()));
        return (token.trim_end().to_string(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// A reference resolved against a URL (RFC 3986 section 5.2).
fn resolve(base: &Url, reference: &str) -> Option<Url> {
    let reference = reference.split('#').next().unwrap_or(reference);
    let origin = base.origin().to_string();
    let path = base.target().split('?').next().unwrap_or("/");
    let absolute = if reference.is_empty() {
        return None;
    } else if has_scheme(reference) {
        reference.to_string()
    } else if let Some(authority) = reference.strip_prefix("//") {
        let (scheme, _) = origin.split_once("://")?;
        format!("{scheme}://{authority}")
    } else if reference.starts_with('/') {
        format!("{origin}{}", without_dots(reference))
    } else if reference.starts_with('?') {
        format!("{origin}{path}{reference}")
    } else {
        let (folder, _) = path.rsplit_once('/')?;
        format!("{origin}{}", without_dots(&format!("{folder}/{reference}")))
    };
    types::resource(base, &absolute)
}

/// Whether a reference starts with `scheme:` (RFC 3986 section 3.1).
fn has_scheme(reference: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    reference.split_once(':').is_some_and(|(scheme, _)| scheme.bytes().all(fits))
}

/// A path and query with `.` and `..` followed (RFC 3986 section 5.2.4).
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&str]) -> Vec<String> {
        let mut headers = Headers::new();
        for field in fields {
            headers.push("Link", field);
        }
        let base = Url::parse("https://ca.example:444/acme/cert/1?x=y").unwrap();
        alternates(&headers, &base).iter().map(ToString::to_string).collect()
    }

    /// RFC 8555 section 7.4.2.
    #[test]
    fn the_alternates_of_rfc_8555() {
        let fields = [
            r#"<https://example.com/acme/directory>;rel="index""#,
            r#"<https://example.com/acme/cert/mAt3xBGaobw/1>;rel="alternate""#,
        ];
        assert_eq!(found(&fields), ["https://example.com/acme/cert/mAt3xBGaobw/1"]);
    }

    #[test]
    fn repeated_or_joined_quoted_or_not() {
        let fields = [
            r#"<https://a/1>; title="a, <b>; rel=\"x\""; rel="alternate" , <https://a/2>;REL=Alternate"#,
            r#"<https://a/3>;rel="up ALTERNATE", <https://a/4>;rel=up,<https://a/5> ; rel = alternate"#,
            r#"<https://a/6,7;8>;flag;rel=alternate;rel=up"#,
            r#"<https://a/9>;rel=up;rel=alternate, <https://a/1>;rel=alternate"#,
        ];
        let expected =
            ["https://a/1", "https://a/2", "https://a/3", "https://a/5", "https://a/6,7;8"];
        assert_eq!(found(&fields), expected);
    }

    #[test]
    fn relative_targets_are_resolved() {
        let cases = [
            ("/acme/alt/1", "https://ca.example:444/acme/alt/1"),
            ("1/alt?z", "https://ca.example:444/acme/cert/1/alt?z"),
            ("./2", "https://ca.example:444/acme/cert/2"),
            ("../alt/2", "https://ca.example:444/acme/alt/2"),
            ("../../../..", "https://ca.example:444"),
            ("?chain=2", "https://ca.example:444/acme/cert/1?chain=2"),
            ("//other.example/2#part", "https://other.example/2"),
            ("HTTPS://other.example/2", "https://other.example/2"),
        ];
        for (target, url) in cases {
            assert_eq!(found(&[&format!("<{target}>;rel=alternate")]), [url], "{target}");
        }
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        let none = [
            "<http://127.0.0.1:444/2>;rel=alternate",
            "<http://localhost/2>;rel=alternate",
            "",
            "<",
            "<https://a/1",
            "<https://a/1>",
            "<https://a/1>;",
            "<https://a/1>;rel",
            "<https://a/1>;rel=",
            "https://a/1;rel=alternate",
            "<>;rel=alternate",
            "<mailto:a@b.org>;rel=alternate",
            "<https://a b>;rel=alternate",
            "</acme/cert/1?x=y>;rel=alternate",
        ];
        for field in none {
            assert_eq!(found(&[field]), Vec::<String>::new(), "{field}");
        }
        assert_eq!(found(&["rubbish, <https://a/1>;rel=alternate"]), ["https://a/1"]);
        let whole = r#"<https://a/ü>;x="\ü";rel="alternate", <b>;rel=alternate"#;
        for end in (0..=whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = found(&[&whole[..end]]);
        }
    }
}
