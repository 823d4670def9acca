//! The help, made from the table of options: at most 80 columns wide.

use super::options::{OPTIONS, PREFIX, Spec, Takes};

const COLUMNS: usize = 80;
/// Where the explanations begin.
const INDENT: usize = 30;

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "Usage: marathon-acme [OPTIONS] STORAGE-DIR\n\n\
         Keeps a TLS certificate fresh for every app on Marathon that asks for one by its\n\
         label MARATHON_ACME_{n}_DOMAIN, and makes every marathon-lb load it.\n\nOptions:\n",
    );
    for spec in OPTIONS {
        entry(&mut text, &left(spec), spec.help);
    }
    entry(&mut text, "  -h, --help", "show this and exit");
    entry(&mut text, "      --version", "show the version and exit");
    let variables = format!(
        "\nEvery option can be set by a variable as well: {PREFIX}LOG_LEVEL for\n\
         --log-level, {PREFIX}STORAGE_DIR for STORAGE-DIR; switches take true or\n\
         false. The command line wins. {PREFIX}USER=UID[:GID] makes the program\n\
         switch to that user once its port is bound.\n\n\
         HTTPS_PROXY, HTTP_PROXY and NO_PROXY say by which HTTP proxy to go to the CA\n\
         and to Marathon; SSL_CERT_FILE is trusted where --acme-ca or --marathon-ca is\n\
         not given.\n\n\
         Exit status: 0 done, 1 could not do it, 2 the command line is wrong.\n",
    );
    text.push_str(&variables);
    text
}

fn left(spec: &Spec) -> String {
    let short = spec.short.map_or("    ".to_string(), |letter| format!("-{letter}, "));
    match spec.takes {
        Takes::Nothing => format!("  {short}--{}", spec.long),
        Takes::Value(name) => format!("  {short}--{} {name}", spec.long),
    }
}

/// One entry: the explanation beside the option, or below when that is too long.
fn entry(text: &mut String, left: &str, explanation: &str) {
    text.push_str(left);
    let mut column = left.chars().count();
    if column + 2 > INDENT {
        text.push('\n');
        column = 0;
    }
    text.push_str(&" ".repeat(INDENT - column));
    column = INDENT;
    for word in explanation.split(' ') {
        let length = word.chars().count();
        if column > INDENT && column + 1 + length > COLUMNS {
            text.push('\n');
            text.push_str(&" ".repeat(INDENT));
            column = INDENT;
        }
        if column > INDENT {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}
