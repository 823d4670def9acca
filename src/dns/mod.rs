//! The stub resolver (RFC 1034, RFC 1035): messages, configuration, and the lookup machine. No sockets.
