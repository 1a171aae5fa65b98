//! What `fenghuo run` tells who starts it on a folder: where everything is, and, as long as nothing
//! was sent, how to send the first events.

use std::net::SocketAddr;
use std::path::Path;

use fenghuo_notify::SecretSource;

/// Where everything is.
pub fn text(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "Fenghuo is watching. Everything is kept in {folder}.\n\n  \
         screen   http://{address}/\n  \
         events   POST http://{address}/api/v1/events\n"
    )
}

/// A command that works as it stands: it makes its own times and ids, can be sent again, and leads
/// to a page.
///
/// Where senders carry a token, the shell reads it from where it is: the text never holds it.
pub fn first_events(address: SocketAddr, token: Option<&SecretSource>, utc_offset: &str) -> String {
    let bearer = match token {
        // One that was only given to this process is nowhere to be read.
        None | Some(SecretSource::Given(_)) => String::new(),
        Some(SecretSource::Env(name)) => bearer(&format!("${{{name}}}")),
        Some(SecretSource::File(path)) => {
            bearer(&format!("$(cat {})", quoted(&path.display().to_string())))
        }
    };
    let meta = |what: &str| {
        format!(
            r#""meta":{{"event_id":"{what}-$(date +%s)","source":"by-hand","shop_id":"my-shop","occurred_at":"$(date +%Y-%m-%dT%H:%M:%S){utc_offset}"}}"#
        )
    };
    let (floor, order) = (meta("floor"), meta("order"));
    format!(
        r#"Send first events: a price floor, and an order below it, which pages. Again is fine.

curl -sS http://{address}/api/v1/events -H 'Content-Type: application/x-ndjson'{bearer} --data-binary @- <<END
{{{floor},"catalog":{{"type":"UPSERT","sku_id":"tea-500g","pack_units":1,"price_floor":{{"currency_code":"CNY","minor_units":4900}}}}}}
{{{order},"order":{{"type":"PAID","order_id":"by-hand-$(date +%s)","lines":[{{"sku_id":"tea-500g","quantity":1,"pack_units":1,"unit_price":{{"currency_code":"CNY","minor_units":490}}}}]}}}}
END
"#
    )
}

fn bearer(token: &str) -> String {
    format!(r#" -H "Authorization: Bearer {token}""#)
}

/// A word that a shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What curl would be given: the shell runs the command with another curl.
    fn given(token: Option<&SecretSource>) -> String {
        let text = first_events("127.0.0.1:8686".parse().unwrap(), token, "+08:00");
        let command = text.split_once("\n\n").unwrap().1;
        let script = format!("curl() {{ printf '%s\\n' \"$@\"; cat; }}\n{command}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("SHOP_TOKEN", "s3cret");
        let out = shell.output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!text.contains("s3cret"), "{text}");
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn the_command_carries_the_token_where_one_is_needed_and_shows_none() {
        assert!(!given(None).contains("Authorization"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("the shop's token");
        std::fs::write(&path, "s3cret\n").unwrap();
        for token in [
            SecretSource::File(path),
            SecretSource::Env("SHOP_TOKEN".to_owned()),
        ] {
            let given = given(Some(&token));
            let header = "-H\nAuthorization: Bearer s3cret\n";
            assert!(given.contains(header), "{given}");
            assert!(given.contains("price_floor"), "{given}");
        }
    }
}
