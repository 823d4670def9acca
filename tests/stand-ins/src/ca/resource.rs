//! The URLs of the CA, below its base.

use super::objects::ChallengeKind;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Directory,
    Terms,
    NewNonce,
    NewAccount,
    NewOrder,
    RevokeCert,
    KeyChange,
    Account(usize),
    AccountOrders(usize),
    Order(usize),
    Finalize(usize),
    Authz(usize),
    Challenge(usize, ChallengeKind),
    Certificate(usize),
    /// Another chain of a certificate, from 1 on.
    Alternate(usize, u8),
    /// The certificate is named by the last part of the path.
    RenewalInfo,
}

impl Resource {
    /// Whether the directory says where it is.
    pub(super) const fn is_in_directory(self) -> bool {
        matches!(
            self,
            Resource::NewNonce
                | Resource::NewAccount
                | Resource::NewOrder
                | Resource::RevokeCert
                | Resource::KeyChange
                | Resource::RenewalInfo
        )
    }

    /// Reads a request target; a query, a doubled slash or `01` for `1` is another URL, and
    /// unknown.
    pub(super) fn parse(target: &str) -> Option<Resource> {
        let parts: Vec<&str> = target.strip_prefix('/')?.split('/').collect();
        Some(match parts.as_slice() {
            ["directory"] => Resource::Directory,
            ["terms"] => Resource::Terms,
            ["new-nonce"] => Resource::NewNonce,
            ["new-account"] => Resource::NewAccount,
            ["new-order"] => Resource::NewOrder,
            ["revoke-cert"] => Resource::RevokeCert,
            ["key-change"] => Resource::KeyChange,
            ["account", index] => Resource::Account(number(index)?),
            ["account", index, "orders"] => Resource::AccountOrders(number(index)?),
            ["order", index] => Resource::Order(number(index)?),
            ["order", index, "finalize"] => Resource::Finalize(number(index)?),
            ["authz", index] => Resource::Authz(number(index)?),
            ["challenge", index, kind] => {
                Resource::Challenge(number(index)?, ChallengeKind::parse(kind)?)
            }
            ["cert", index] => Resource::Certificate(number(index)?),
            ["cert", index, "alternate", chain] => {
                let chain = u8::try_from(number(chain)?).ok().filter(|chain| *chain > 0)?;
                Resource::Alternate(number(index)?, chain)
            }
            ["renewal-info", _] => Resource::RenewalInfo,
            _ => return None,
        })
    }
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_path_is_a_resource() {
        let kind = ChallengeKind::Http;
        assert_eq!(Resource::parse("/challenge/7/http-01"), Some(Resource::Challenge(7, kind)));
        assert_eq!(Resource::parse("/order/0/finalize"), Some(Resource::Finalize(0)));
        assert_eq!(Resource::parse("/cert/2/alternate/1"), Some(Resource::Alternate(2, 1)));
        assert_eq!(Resource::parse("/renewal-info/a.b"), Some(Resource::RenewalInfo));
        assert_eq!(Resource::parse("/renewal-info//a.b"), None);
        assert_eq!(Resource::parse("/cert/2/alternate/0"), None);
        for bad in ["/order/01", "/order/+1", "//order/1", "/order/1/", "/order/1?", "order/1", ""]
        {
            assert_eq!(Resource::parse(bad), None, "{bad}");
        }
    }
}
