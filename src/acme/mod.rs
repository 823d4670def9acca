//! The ACME client: RFC 8555, as requests in and responses out. Never touches a connection.
