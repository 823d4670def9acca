//! The command line and the environment: words in, a checked configuration out.
