//! Accounts (RFC 8555 section 7.3): made, found again, changed, deactivated, forgotten.

use serde_json::{Map, Value, json};

use super::objects::Account;
use super::problem::Problem;
use super::requests::{missing, read_only};
use super::{Answer, Ca, Post};

impl Ca {
    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        self.accounts.iter().filter(|account| !account.forgotten).count()
    }

    /// The contact URLs of `/account/INDEX`.
    pub fn account_contacts(&self, index: usize) -> Option<&[String]> {
        let account = self.accounts.get(index).filter(|account| !account.forgotten)?;
        Some(&account.contact)
    }

    /// Deactivates `/account/INDEX`, as its owner could by another client, or the CA itself.
    pub fn deactivate_account(&mut self, index: usize) {
        if let Some(account) = self.accounts.get_mut(index) {
            account.deactivated = true;
        }
    }

    /// Makes every account usable again.
    pub fn reactivate_accounts(&mut self) {
        for account in &mut self.accounts {
            account.deactivated = false;
        }
    }

    /// Loses every account: no URL and no key is known any more. What they ordered remains, and
    /// is nobody's; URLs are not given out again.
    pub fn forget_accounts(&mut self) {
        for account in &mut self.accounts {
            account.forgotten = true;
        }
    }

    /// RFC 8555 section 7.3.
    pub(super) fn new_account(&mut self, post: &Post) -> Result<Answer, Problem> {
        let payload = post.jws.object()?;
        let same = |account: &Account| account.key == post.key && !account.forgotten;
        let existing = self.accounts.iter().position(same);
        if let Some(index) = existing {
            let account = &self.accounts[index];
            if account.deactivated {
                return Err(Problem::new(401, "unauthorized", "the account is deactivated"));
            }
            let url = format!("{}/account/{index}", self.base);
            return Ok(Answer::json(
                200,
                &account.json(&url, self.settings.shows_contact),
                "known account",
            )
            .with("Location", url));
        }
        if payload.get("onlyReturnExisting") == Some(&Value::Bool(true)) {
            let detail = "no account has this key";
            return Err(Problem::new(400, "accountDoesNotExist", detail));
        }
        if payload.get("termsOfServiceAgreed") != Some(&Value::Bool(true)) {
            return Err(Problem::malformed("the terms of service are not agreed to"));
        }
        let contact = contact(&payload)?;
        if let Some(kid) = self.check_binding(&payload, &post.key)? {
            self.bindings.insert(kid, post.key.clone());
        }
        let key = post.key.clone();
        let account = Account { key, contact, deactivated: false, forgotten: false };
        let url = format!("{}/account/{}", self.base, self.accounts.len());
        let answer =
            Answer::json(201, &account.json(&url, self.settings.shows_contact), "new account");
        self.accounts.push(account);
        Ok(answer.with("Location", url))
    }

    /// RFC 8555 sections 7.3.2 and 7.3.6.
    pub(super) fn account(
        &mut self,
        post: &Post,
        index: usize,
        signer: usize,
    ) -> Result<Answer, Problem> {
        let url = format!("{}/account/{index}", self.base);
        if index != signer {
            return Err(Problem::unauthorized("this is another account"));
        }
        let account = self.accounts.get_mut(index).ok_or(missing())?;
        if !post.jws.payload.is_empty() {
            let payload = post.jws.object()?;
            if payload.get("status") == Some(&json!("deactivated")) {
                account.deactivated = true;
            }
            if payload.contains_key("contact") {
                account.contact = contact(&payload)?;
            }
        }
        Ok(Answer::json(200, &account.json(&url, self.settings.shows_contact), "account"))
    }

    pub(super) fn account_orders(
        &self,
        post: &Post,
        index: usize,
        signer: usize,
    ) -> Result<Answer, Problem> {
        read_only(post)?;
        if index != signer {
            return Err(Problem::unauthorized("this is another account"));
        }
        let orders = self.orders.iter().enumerate().filter(|(_, order)| order.account == signer);
        let urls: Vec<String> =
            orders.map(|(index, _)| format!("{}/order/{index}", self.base)).collect();
        Ok(Answer::json(200, &json!({ "orders": urls }), "orders"))
    }
}

/// The contacts of an account: e-mail only, one address each (RFC 8555 section 7.3).
fn contact(payload: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let Some(contact) = payload.get("contact") else { return Ok(Vec::new()) };
    let contact = contact.as_array().ok_or(Problem::malformed("contact is no array"))?;
    let mut urls = Vec::new();
    for url in contact {
        let url = url.as_str().ok_or(Problem::malformed("a contact is no string"))?;
        let Some(address) = url.strip_prefix("mailto:") else {
            return Err(Problem::new(400, "unsupportedContact", "mailto only"));
        };
        let sound = address.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && host.contains('.') && !address.contains(['?', ',', ' '])
        });
        if !sound {
            return Err(Problem::new(400, "invalidContact", format!("{address} is no address")));
        }
        urls.push(url.to_string());
    }
    Ok(urls)
}
