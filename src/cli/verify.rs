//! `--lb-verify-port` and `--lb-verify`: where load balancers are looked at for what they serve.

use crate::config::{Place, Verification};
use crate::url::{Origin, Url};

use super::error::{Item, UsageError, items, wrong};

const PORT: &str = "lb-verify-port";
const MAP: &str = "lb-verify";

/// What both say of these load balancers.
pub(super) fn verification(
    lbs: &[Url],
    port: Option<&str>,
    map: Option<&str>,
) -> Result<Verification, UsageError> {
    let port = port.map(|text| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(wrong(PORT, text, "write the port on which HAProxy speaks TLS, such as 443")),
    });
    let items: Result<Vec<_>, _> =
        map.into_iter().flat_map(items).map(|item| entry(lbs, &item)).collect();
    let elsewhere = items?.into_iter().flatten().collect();
    Ok(Verification { port: port.transpose()?, elsewhere })
}

/// The origins that `NAME=HOST:PORT` is for, and where they are looked at. The name may have the port of
/// its URL, where several have one host.
fn entry(lbs: &[Url], item: &Item<'_>) -> Result<Vec<(Origin, Place)>, UsageError> {
    let refuse = |fix: &str| Err(wrong(MAP, &item.shown, fix));
    let Some((name, place)) = item.text.split_once('=') else {
        return refuse("write NAME=HOST:PORT, such as lb.example.com=10.0.0.1:443");
    };
    let Some(place) = Url::parse(&format!("https://{place}")).ok().filter(is_bare) else {
        return refuse("what follows the equals sign is no HOST:PORT");
    };
    let Origin { host, port, .. } = place.origin().clone();
    let is_meant = |origin: &&Origin| {
        let host = origin.host.to_string();
        name.eq_ignore_ascii_case(&host)
            || name.eq_ignore_ascii_case(&format!("{host}:{}", origin.port))
    };
    let meant = lbs.iter().map(Url::origin).filter(is_meant);
    let meant: Vec<_> =
        meant.map(|origin| (origin.clone(), Place::Host(host.clone(), port))).collect();
    if meant.is_empty() {
        return refuse("no URL of --lb has that name; write it as it stands there");
    }
    Ok(meant)
}

/// Whether a URL has a host, perhaps a port, and nothing else.
fn is_bare(url: &Url) -> bool {
    url.target() == "/" && url.credentials().is_none() && url.origin().port != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LBS: [&str; 3] =
        ["http://lb.mesos:9090", "http://127.0.0.1:9091/x", "http://127.0.0.1:9092"];

    fn read(port: Option<&str>, map: Option<&str>) -> Result<Vec<Option<String>>, String> {
        let lbs: Vec<Url> = LBS.iter().map(|url| Url::parse(url).unwrap()).collect();
        let verification = verification(&lbs, port, map).map_err(|error| error.to_string())?;
        let place = |lb| match verification.place(lb)? {
            Place::Same(port) => Some(format!(":{port}")),
            Place::Host(host, port) => Some(format!("{host}:{port}")),
        };
        Ok(lbs.iter().map(place).collect())
    }

    #[test]
    fn each_load_balancer_has_its_place_or_none() {
        let some = |text: &str| Some(text.to_string());
        assert_eq!(read(None, None), Ok(vec![None, None, None]));
        assert_eq!(read(Some("443"), None), Ok(vec![some(":443"); 3]));
        let map = "127.0.0.1:9092=[::1]:8443, LB.mesos=edge.example";
        assert_eq!(
            read(None, Some(map)),
            Ok(vec![some("edge.example:443"), None, some("[::1]:8443")])
        );
        let expected = vec![some(":443"), some("10.0.0.1:444"), some("10.0.0.1:444")];
        assert_eq!(read(Some("443"), Some("127.0.0.1=10.0.0.1:444")), Ok(expected));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for port in ["0", "65536", "https", "-1", ""] {
            let error = read(Some(port), None).unwrap_err();
            assert!(error.contains("--lb-verify-port") && !error.contains('\n'), "{error}");
        }
        let cases = [
            ("lb.mesos", "write NAME=HOST:PORT"),
            ("lb.mesos=", "no HOST:PORT"),
            ("lb.mesos=h:x", "no HOST:PORT"),
            ("lb.mesos=me:pw@h:443", "no HOST:PORT"),
            ("lb.mesos=h:443/path", "no HOST:PORT"),
            ("lb2.mesos=h:443", "no URL of --lb has that name"),
            ("lb.mesos=h:443,", "write NAME=HOST:PORT"),
        ];
        for (map, fix) in cases {
            let error = read(None, Some(map)).unwrap_err();
            assert!(error.contains("--lb-verify") && error.contains(fix), "{map}: {error}");
        }
    }
}
