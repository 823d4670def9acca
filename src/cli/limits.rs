//! `--ca-limits`: the rate limits of an account for which the CA has raised them.

use crate::config::CaLimits;

use super::error::{UsageError, wrong};

/// No CA gives more to one account, and with more the time of one token is too short to be kept.
const TOKENS_MAX: u32 = 1_000_000;
const FORM: &str = "write orders=N,domain=N, or one of the two, or off";

/// `off`, or one or both of the limits.
pub(super) fn ca_limits(text: &str) -> Result<CaLimits, UsageError> {
    let refuse = |fix: String| wrong("ca-limits", &format!("{text:?}"), fix);
    if text.trim() == "off" {
        return Ok(CaLimits::Off);
    }
    let (mut orders, mut domain) = (None, None);
    for item in text.split(',') {
        let (key, number) = item.split_once('=').ok_or_else(|| refuse(FORM.into()))?;
        let limit = match key.trim() {
            "orders" => &mut orders,
            "domain" => &mut domain,
            other => return Err(refuse(format!("{other:?} is not a limit; {FORM}"))),
        };
        let digits = number.trim();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let tokens = digits.parse().ok().filter(|it| is_number && (1..=TOKENS_MAX).contains(it));
        let Some(tokens) = tokens else {
            let fix = format!("{digits:?} is not a number from 1 to {TOKENS_MAX}");
            return Err(refuse(format!("{fix}; off disables the accounting")));
        };
        if limit.replace(tokens).is_some() {
            return Err(refuse(format!("a limit is given twice; {FORM}")));
        }
    }
    Ok(CaLimits::Given { orders, domain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_raised_one_by_one_or_turned_off() {
        let given = |orders, domain| Ok(CaLimits::Given { orders, domain });
        assert_eq!(ca_limits("off"), Ok(CaLimits::Off));
        assert_eq!(ca_limits("orders=1500,domain=200"), given(Some(1500), Some(200)));
        assert_eq!(ca_limits(" domain = 200 , orders = 1500 "), given(Some(1500), Some(200)));
        assert_eq!(ca_limits("orders=1"), given(Some(1), None));
        assert_eq!(ca_limits("domain=1000000"), given(None, Some(TOKENS_MAX)));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_the_fix() {
        let form = "write orders=N,domain=N, or one of the two, or off";
        let number = "is not a number from 1 to 1000000; off disables the accounting";
        for (text, fix) in [
            ("", form.to_string()),
            ("on", form.to_string()),
            ("orders", form.to_string()),
            ("orders=5,", form.to_string()),
            ("off,orders=5", form.to_string()),
            ("domains=5", format!("\"domains\" is not a limit; {form}")),
            ("=5", format!("\"\" is not a limit; {form}")),
            ("orders=5,orders=6", format!("a limit is given twice; {form}")),
            ("orders=0", format!("\"0\" {number}")),
            ("orders=", format!("\"\" {number}")),
            ("domain=-1", format!("\"-1\" {number}")),
            ("domain=+1", format!("\"+1\" {number}")),
            ("domain=5.5", format!("\"5.5\" {number}")),
            ("domain=1000001", format!("\"1000001\" {number}")),
            ("domain=99999999999", format!("\"99999999999\" {number}")),
        ] {
            let error = ca_limits(text).expect_err(text).to_string();
            let expected = format!("--ca-limits {text:?}: {fix}");
            assert!(error.contains(&expected), "{error}");
        }
    }
}
