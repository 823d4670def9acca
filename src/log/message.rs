//! Texts of the log that are used in more than one place: where a record is made, where another record
//! ends its problem, and in tests. A message changes here and nowhere else. Makes no records.

/// The program accepts connections.
pub const LISTENING: &str = "listening";
/// The second listener accepts connections.
pub const OPERATOR_LISTENING: &str = "listening for the operator";
/// A socket of the service manager is used.
pub const SOCKET_TAKEN: &str = "took a socket of the service manager over";
/// A further socket of the service manager is not used.
pub const SOCKET_UNUSED: &str = "only one socket of the service manager is used";
/// A signal ends the program.
pub const STOPPING: &str = "stopping";
/// `NOTIFY_SOCKET` does not work.
pub const NOTIFY_FAILED: &str = "the service manager cannot be told how it stands";
/// Descriptors ran out.
pub const FEW_DESCRIPTORS: &str = "few descriptors are left, the oldest idle connections go";

/// `--once` ends well.
pub const UP_TO_DATE: &str = "everything is up to date";
/// `--once` ends, and certificates are missing.
pub const CERTIFICATES_MISSING: &str = "certificates are missing";
/// `--once` or `--revoke` ends before its work is done.
pub const GIVEN_UP: &str = "given up";
/// Another instance has the storage, so nothing else can be done with it.
pub const ANOTHER_IS_ACTIVE: &str = "another instance is active on this storage; stop it first";
/// `--revoke` ends well.
pub const REVOKED: &str = "revoked";
/// `--revoke` has failed.
pub const NOT_REVOKED: &str = "not revoked";

/// This instance is the active one.
pub const STORAGE_OPENED: &str = "opened";
/// The storage cannot be opened or written.
pub const STORAGE_FAILED: &str = "not usable";
/// The end of [`STORAGE_FAILED`].
pub const STORAGE_RECOVERED: &str = "usable again";
/// The lock of the system is another instance's.
pub const STANDING_BY: &str = "another instance is active, standing by";
/// The lock of the system is free, and the lease is another machine's.
pub const STANDING_BY_LEASE: &str =
    "another machine's instance may be active, standing by until its lease ends";
/// The lease of another instance has expired.
pub const TOOK_OVER: &str = "took over from an instance that is frozen or gone";
/// Another instance has the lease of this one.
pub const LEASE_LOST: &str = "lost the lease on the storage, stepping down";
/// The file system has no file modes.
pub const NO_MODES: &str = "file modes cannot be set on this file system, other users may read private \
    keys; mount it for the user of marathon-acme and of the load balancer alone";
/// The file system has no locks.
pub const NO_LOCKS: &str = "files cannot be locked on this file system, only the lease in the file lock \
    keeps instances apart";
/// The file system has no flushes.
pub const NO_FLUSHES: &str =
    "files cannot be flushed on this file system, a power failure may lose the latest ones";

/// A file in `certs/` holds a certificate for other names.
pub const CERTIFICATE_MISNAMED: &str = "certificate file is not for its own name";
/// A file in `certs/` holds a certificate that the daemon cannot verify.
pub const CERTIFICATE_UNVERIFIABLE: &str = "cannot verify certificate file";
/// A path in `certs/` is a link, a directory or a device.
pub const CERTIFICATE_NOT_A_FILE: &str = "certificate file is not a regular file";
/// A file in `certs/` was written by another program.
pub const CERTIFICATE_CHANGED: &str = "certificate file was changed by another, it is read";
/// A file in `certs/` was removed by another program.
pub const CERTIFICATE_GONE: &str = "certificate file is gone";
/// A certificate was moved from `certs/` to `archive/`.
pub const CERTIFICATE_ARCHIVED: &str = "certificate archived";
/// A certificate cannot be written to `certs/`.
pub const CERTIFICATE_UNWRITTEN: &str = "cannot write certificate, it is kept in memory";
/// A file in `certs/` was not written by this program.
pub const FOREIGN_FILE: &str = "a file in certs/ is not ours";
/// The end of [`FOREIGN_FILE`].
pub const FOREIGN_FILE_GONE: &str = "a file that was not ours is gone from certs/";
/// Private keys were removed from `archive/`.
pub const KEYS_REMOVED: &str = "private keys of expired certificates removed from archive/";
/// Private keys in `archive/` cannot be judged.
pub const KEYS_WITHOUT_CERTIFICATE: &str = "files in archive/ hold a private key but no readable \
    certificate, the keys are kept until the files are deleted";

/// The CA knows the account.
pub const REGISTERED: &str = "account is registered";
/// The directory cannot be read, or the account cannot be made.
pub const REGISTRATION_FAILED: &str = "cannot register with the CA";
/// No order is possible before a person acts.
pub const CANNOT_ORDER: &str = "cannot order until this is mended";
/// The CA does not know the account any more.
pub const ACCOUNT_FORGOTTEN: &str = "the CA has forgotten the account, registering anew";
/// The CA asks for a pause.
pub const CA_OVERLOADED: &str = "the CA is overloaded, new orders wait";
/// The CA's `Date` differs from the clock.
pub const CLOCKS_DIFFER: &str = "the CA's clock shows another time";

/// An order begins.
pub const ORDER_STARTED: &str = "started";
/// An order of an earlier run continues.
pub const ORDER_RESUMED: &str = "resumed";
/// A certificate is stored.
pub const ORDER_ISSUED: &str = "issued";
/// An order has failed.
pub const ORDER_FAILED: &str = "failed";
/// A limit of the CA delays an order.
pub const ORDER_HELD_BACK: &str = "held back";
/// A name of a certificate has failed; the others are ordered without it.
pub const NAME_LEFT_OUT: &str = "a name is left out for now";
/// A request to the CA has failed and is repeated.
pub const CALL_FAILED: &str = "a call failed, trying again";
/// The CA refuses `replaces`.
pub const REPLACES_REFUSED: &str = "ordering without saying what is replaced";
/// The CA has refused an order for its number of names.
pub const FEWER_NAMES: &str = "the CA accepts fewer names in one certificate";
/// The CA does not offer the chain of `--preferred-chain`.
pub const CHAIN_NOT_OFFERED: &str = "the preferred chain is not to be had, using the default";
/// The CA's answer holds the leaf alone.
pub const CHAIN_MISSING: &str = "the CA sent no chain with the certificate";
/// The CA's chain was sorted.
pub const CHAIN_REORDERED: &str =
    "the CA's chain is stored in another order or without a part of it";
/// A new certificate fails its validation.
pub const CERTIFICATE_REFUSED: &str = "the CA's certificate is not usable";
/// The certificate of [`CERTIFICATE_REFUSED`], or one that was rolled back, is in `archive/`.
pub const REFUSED_KEPT: &str = "the refused certificate is kept in archive/";

/// The CA suggests another renewal window than before.
pub const WINDOW_MOVED: &str = "the CA has moved the renewal window";
/// The CA suggests no renewal window.
pub const WINDOW_UNKNOWN: &str = "no renewal window from the CA";
/// `--once` has ended without all renewal windows.
pub const WINDOWS_UNKNOWN: &str =
    "not every renewal window is known, what was known before decides";

/// Marathon sends its events.
pub const ATTACHED: &str = "attached to the event stream";
/// Marathon does not send its events.
pub const NO_STREAM: &str = "no event stream";
/// The file of `--marathon-token` cannot be read again.
pub const NO_NEW_TOKEN: &str = "no new token, the last one is used on";
/// An event was longer than its limit.
pub const EVENT_TOO_LARGE: &str = "an event was too large, its data was dropped";
/// The apps cannot be read.
pub const SYNC_FAILED: &str = "sync failed";
/// A label asks for a domain.
pub const DOMAIN_WANTED: &str = "domain is wanted";
/// No label asks for a domain any more.
pub const DOMAIN_UNWANTED: &str = "domain is no longer wanted";
/// The route of a challenge does not end at this program.
pub const ROUTE_BROKEN: &str = "a challenge would not reach us";

/// A load balancer has loaded what was written.
pub const RELOADED: &str = "reload acknowledged";
/// A load balancer cannot be signaled, or has not reloaded.
pub const NOT_RELOADED: &str = "reload not acknowledged";
/// A load balancer shows another certificate than after its reload.
pub const LB_DRIFTED: &str = "load balancer serves another certificate than it loaded";
/// No TLS handshake with a load balancer succeeds.
pub const LB_UNSEEN: &str = "load balancer cannot be probed";
/// The previous certificate is in `certs/` again.
pub const ROLLED_BACK: &str = "rolled back to the previous certificate";
/// The certificate of [`ROLLED_BACK`] is in `certs/` again.
pub const ROLLBACK_RETRIED: &str = "a certificate that was rolled back is tried again";
/// The rollback is undone.
pub const ROLLBACK_UNDONE: &str = "the rollback has not helped, the new certificate is restored";
