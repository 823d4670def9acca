//! Coverage-guided fuzzing of all that comes from outside. `make fuzz SECONDS=60` runs every target for
//! that long, `make fuzz TARGET=sse SECONDS=600` one of them; what one finds ends as an error that
//! names the input and how to replay it. `make test` runs the committed corpora, and what is near to
//! them, through the same bodies.
//!
//! A body asserts more than that nothing panics: any split of the bytes means the same, what is
//! written reads back as it was, limits hold, and where there is a second way to say what the bytes
//! mean, both agree. The targets:
//!
//! | target | what it reads | what must hold besides |
//! |---|---|---|
//! | `request` | a connection to the listener | the split; an answer each, in order; HAProxy's path is ours |
//! | `response` | a response to us | the split; nothing behind the end is taken; chunks come out as put in |
//! | `sse` | an event stream | the split; events written and read again are the same |
//! | `dns` | a DNS message | only an answer to the question counts; addresses of its family |
//! | `resolver` | answers to lookups, in any order | one answer a lookup, everything opened is closed |
//! | `name_service` | `resolv.conf` and `hosts` | limits; settings written and read again are the same |
//! | `apps` | Marathon's list of apps | the split; the same apps as a JSON library finds |
//! | `event` | an event's name and data | the name decides, or the type in the data |
//! | `labels` | an app's labels | only ports that there are; three ways to choose names agree |
//! | `configuration` | HAProxy's configuration | any layout means the same; each path once |
//! | `acme` | the objects of a CA | limits; one line of text; any layout of the JSON means the same |
//! | `acme_fields` | `Retry-After`, `Link`, nonces, dates | limits; dates read back as written |
//! | `pem` | certificate files and chains | what is taken for whole stays so when written again |
//! | `leaf` | a certificate's DER | no byte more or less; renewal within its life |
//! | `account_key` | `client.key` | a key that is taken has a fit size and signs |
//! | `state` | `state.json` | what is read is written so that it reads the same |
//! | `url` | URLs and redirects | the same again; no password shown or sent elsewhere; one request |
//! | `domain` | a name for a certificate | exactly what keeps every rule |
//! | `daemon` | a script of all that can happen | the rules of `machine.rs`; bounds; it ends when told to |
//!
//! # Figures
//!
//! On a machine of 2 cores, which other work kept busy meanwhile. Inputs of the daemon were of up to 24
//! bytes, in several runs side by side; the coverage is the best one's. Found on the way, and fixed
//! with a test each: a DER length that wrapped around and ended the program, addresses of the wrong
//! family, outputs behind the last. Open: nothing.
//!
//! | target | executions | seconds | edges covered |
//! |---|---|---|---|
//! | `account_key` | 10,000,000 | 432 | 819 |
//! | `acme` | 10,000,000 | 436 | 1,956 |
//! | `acme_fields` | 10,000,000 | 579 | 2,051 |
//! | `apps` | 10,000,000 | 402 | 1,365 |
//! | `configuration` | 10,467,071 | 480 | 784 |
//! | `daemon` | 10,014,999 | — | 9,491 |
//! | `dns` | 10,000,000 | 208 | 338 |
//! | `domain` | 10,000,000 | 184 | 144 |
//! | `event` | 10,000,000 | 329 | 765 |
//! | `labels` | 10,000,000 | 531 | 714 |
//! | `leaf` | 10,000,000 | 59 | 681 |
//! | `name_service` | 10,000,000 | 786 | 499 |
//! | `pem` | 10,000,000 | 693 | 1,544 |
//! | `request` | 10,000,000 | 565 | 881 |
//! | `resolver` | 10,000,000 | 902 | 1,043 |
//! | `response` | 10,000,000 | 451 | 619 |
//! | `sse` | 10,000,000 | 277 | 189 |
//! | `state` | 10,000,000 | 225 | 1,489 |
//! | `url` | 10,000,000 | 192 | 455 |

pub mod bodies;
