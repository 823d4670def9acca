//! How far an IP address reaches: over the internet, within a private network, or no further than this
//! machine and its link. By the IANA special-purpose address registries (RFC 6890, RFC 8190). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This machine, its link, or a group: loopback, link-local, unspecified, multicast, broadcast.
    Local,
    /// A private network: private use (RFC 1918), unique-local (RFC 4193), shared (RFC 6598), and what is
    /// reserved or for documentation, which no public network routes.
    Private,
    /// The internet.
    Global,
}

/// The scope of an address. An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4,
/// compatible) has the scope of the IPv4 address, because that is where the packets go.
pub fn scope(address: IpAddr) -> Scope {
    match address {
        IpAddr::V4(address) => scope_v4(address),
        IpAddr::V6(address) => scope_v6(address),
    }
}

fn scope_v4(address: Ipv4Addr) -> Scope {
    match address.octets() {
        [0 | 127 | 224..=239, ..] | [169, 254, ..] | [255, 255, 255, 255] => Scope::Local,
        [10 | 240.., ..]
        | [100, 64..=127, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Scope::Private,
        _ => Scope::Global,
    }
}

fn scope_v6(address: Ipv6Addr) -> Scope {
    match address.segments() {
        // ::, ::1 and IPv4-compatible; mapped; NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            scope_v4(embedded(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => scope_v4(embedded(high, low)),
        [0xfe80..=0xfebf | 0xff00.., ..] => Scope::Local,
        // Protocol assignments, Teredo among them, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Scope::Private,
        [0x2000..=0x3fff, ..] => Scope::Global,
        _ => Scope::Private,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_address_has_its_scope() {
        let cases = [
            (
                Scope::Local,
                "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.254 169.254.169.254 224.0.0.1 239.1.2.3 \
                 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 \
                 64:ff9b::127.0.0.1 2002:7f00:1::1 fe80::1 febf::1 ff02::1",
            ),
            (
                Scope::Private,
                "10.0.0.1 100.64.0.1 100.127.255.254 172.16.0.1 172.31.255.254 192.168.0.1 192.0.0.1 \
                 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.254 198.51.100.1 203.0.113.1 240.0.0.1 \
                 255.255.255.254 ::ffff:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1 2002:a00:1::1 \
                 2001::1 2001:1ff::1 2001:db8::1 3fff::1 fc00::1 fd00:ec2::254 fec0::1 100::1 5f00::1 \
                 4000::1",
            ),
            (
                Scope::Global,
                "1.1.1.1 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 \
                 198.20.0.1 223.255.255.254 ::ffff:1.1.1.1 64:ff9b::1.1.1.1 2002:101:101::1 \
                 2001:200::1 2001:4860::1 2600::1 3ffe::1",
            ),
        ];
        for (expected, addresses) in cases {
            for address in addresses.split_ascii_whitespace() {
                assert_eq!(scope(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
