//! The http-01 responder (RFC 8555 section 8.3): which answer a request gets. No sockets.
