use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::*;

#[test]
fn a_host_name_becomes_a_gateway_id() {
    for (host, id) in [
        ("greenhouse\n", "greenhouse"),
        ("Pi.local", "pi"),
        ("-x y", "x-y"),
        ("", "tidemill"),
        ("ä", "tidemill"),
    ] {
        assert_eq!(name_of(host), id, "{host:?}");
    }
}

/// The files that people copy from, and what is in them.
fn shipped() -> impl Iterator<Item = (String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "toml")).map(|path| {
        (
            path.file_name().unwrap().to_string_lossy().into_owned(),
            fs::read_to_string(path).unwrap(),
        )
    })
}

#[test]
fn every_shipped_configuration_is_valid() {
    for (name, text) in shipped() {
        if let Err(invalid) = Config::parse(&text, Path::new(&name)) {
            panic!("{invalid}");
        }
    }
}

/// `# key = value` lines made keys again, so that what is commented out is
/// checked too. Alternatives of the same thing stay out.
#[test]
fn what_tidemill_toml_comments_out_is_valid_too() {
    let (_, text) = shipped().find(|(name, _)| name == "tidemill.toml").unwrap();
    let alternatives = ["# urls", "# credential", "# password_env", "# tls", "# card_endurance"];
    let lines = text.lines().map(|line| {
        let code = line.strip_prefix("# ").filter(|code| {
            let key = code.split(['=', ']']).next().unwrap_or_default().trim();
            let key = key.trim_start_matches('[');
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            code.contains(['=', '[']) && !key.is_empty() && key.chars().all(name)
        });
        match code {
            Some(code) if !alternatives.iter().any(|start| line.starts_with(start)) => code,
            _ => line,
        }
    });
    let all: String = lines.flat_map(|line| [line, "\n"]).collect();
    let config = Config::parse(&all, Path::new("tidemill.toml")).map_err(|e| e.to_string());
    let config = config.unwrap_or_else(|invalid| panic!("{invalid}\n{all}"));
    assert_eq!(config.forwarders.len(), 1);
    // Commented lines show the defaults, but for names and places.
    assert_eq!(config.store, store::Config::default());
    let forwarder = &config.forwarders["cloud"];
    let default = forward::Config::default();
    assert_eq!(forwarder.inflight, default.inflight);
    assert_eq!(forwarder.topic_prefix, default.topic_prefix);
    assert_eq!(forwarder.keep_alive, default.keep_alive);
    assert_eq!(forwarder.connect_timeout, default.connect_timeout);
    assert_eq!(forwarder.ack_timeout, default.ack_timeout);
    assert_eq!(forwarder.max_packet, default.max_packet);
}

#[test]
fn tidemill_toml_explains_every_key_of_the_schema() {
    let (_, text) = shipped().find(|(name, _)| name == "tidemill.toml").unwrap();
    let explained: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" = "))
        .map(|(key, _)| key.trim())
        .collect();
    let schema = schema();
    for section in ["gateway", "store", "dashboard", "forward"] {
        let section_schema = &schema["properties"][section];
        let keys = match section {
            "forward" => &section_schema["additionalProperties"]["properties"],
            _ => &section_schema["properties"],
        };
        for key in keys.as_object().unwrap().keys() {
            assert!(explained.contains(key.as_str()), "config/tidemill.toml lacks {section}.{key}");
        }
    }
}

fn check(text: &str, expected: Expect) {
    match Config::parse(text, Path::new("tidemill.toml")) {
        Ok(_) => panic!("this is wrong and was accepted:\n{text}"),
        Err(invalid) => expected.assert_eq(&invalid.to_string()),
    }
}

#[test]
fn every_error_is_told_at_once_with_its_place_and_mend() {
    check(
        r#"
[gatway]
id = "x"

[store]
flush = "1 fortnight"
keep = 30
max_size = "2 apples"

[dashboard]
listen = "8080"
view = "everyone"
hosts = ["https://pi.example.org/"]

[forward.cloud]
url = "https://broker.example.com/mqtt"
version = 3
pasword_file = "x"

[forward."Big Cloud"]
url = "ws://a.example/mqtt"

[device.gateway]
driver = "sim"

[device.weather]
driver = "serail"

[device.port]
driver = "serial"
port = "/dev/ttyUSB0"
boud = 9600
format = "json"
[device.port.channel]
temperature = { fied = "t", unit = 5 }
"#,
        expect![[r#"
            tidemill.toml:2:2: gatway: unknown section; did you mean `gateway`?
            tidemill.toml:6:9: store.flush: expected a duration such as 250ms, 1s, 15min, 30d, found the text "1 fortnight"
            tidemill.toml:7:8: store.keep: expected a duration such as 250ms, 1s, 15min, 30d, found the number 30
            tidemill.toml:8:12: store.max_size: expected a size such as 64MiB, 2GiB, found the text "2 apples"
            tidemill.toml:11:10: dashboard.listen: expected an address and a port such as "0.0.0.0:8080"; a name won't do
            tidemill.toml:12:8: dashboard.view: unknown value "everyone"; there are `lan`, `anyone`, `nobody`
            tidemill.toml:13:10: dashboard.hosts.0: "https://pi.example.org/" is not a host name: use a bare name such as "gateway.example.org", without scheme, port or path
            tidemill.toml:16:7: forward.cloud.url: "https" doesn't begin with ws://, wss://, mqtt:// or mqtts://
            tidemill.toml:17:11: forward.cloud.version: 3 is not a version of MQTT: use 5, or 4 for 3.1.1
            tidemill.toml:18:1: forward.cloud.pasword_file: unknown key `pasword_file`; did you mean `password_file`?
            tidemill.toml:20:10: forward.Big Cloud: "Big Cloud" is not a name: use 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit
            tidemill.toml:23:9: device.gateway: this name is the gateway's own; choose another
            tidemill.toml:27:10: device.weather.driver: unknown driver "serail"; did you mean "serial"?
            tidemill.toml:32:1: device.port.boud: unknown key `boud`; did you mean `baud`?
            tidemill.toml:35:17: device.port.channel.temperature.fied: unknown key `fied`; did you mean `field`?
            tidemill.toml:35:36: device.port.channel.temperature.unit: expected a text in quotes, found the number 5
            tidemill.toml: 16 errors
        "#]],
    );
}

#[test]
fn a_broken_file_says_where_it_breaks() {
    check(
        "[store\npath = \"x\"\n",
        expect![[r#"
        tidemill.toml:1:7: unclosed table, expected `]`
        tidemill.toml: 1 error
    "#]],
    );
    check(
        "[store]\npath = \"x\n",
        expect![[r#"
            tidemill.toml:2:10: the text doesn't end: a quotation mark is missing
            tidemill.toml: 1 error
        "#]],
    );
    check(
        "store = 1\n",
        expect![[r#"
            tidemill.toml:1:9: store: expected a table [store], found a number
            tidemill.toml: 1 error
        "#]],
    );
    check(
        "[store]\npath = \"a\"\npath = \"b\"\n",
        expect![[r#"
            tidemill.toml:3:1: `path` stands here for the second time; leave one out
            tidemill.toml: 1 error
        "#]],
    );
}

/// broken.txt: configurations as people write them by mistake, each followed by
/// what they are told. `UPDATE_EXPECT=1` writes the answers anew.
#[test]
fn every_broken_configuration_is_answered_with_its_mend() {
    let golden = include_str!("broken.txt");
    let mut answered = String::new();
    for case in golden.split("### ").skip(1) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (text, _) = rest.split_once("--- says\n").expect("what it says");
        let Err(invalid) = Config::parse(text, Path::new("tidemill.toml")) else {
            panic!("{name}: this is wrong and was accepted:\n{text}");
        };
        assert!(!invalid.to_string().contains("secret"), "no password is repeated: {invalid}");
        answered += &format!("### {name}\n{text}--- says\n{invalid}\n");
    }
    assert!(golden.matches("### ").count() >= 60, "the issue asks for sixty");
    expect_test::expect_file!["broken.txt"].assert_eq(&answered);
}

#[test]
fn the_disk_that_is_watched_is_the_stores_unless_it_is_named() {
    let disk = |device: &str| {
        let text =
            format!("[device.board]\ndriver = 'system'\n{device}\n[store]\npath = '/srv/t/x.db'");
        let config = Config::parse(&text, Path::new("t.toml")).map_err(|e| e.to_string()).unwrap();
        config.devices[0].written().get("disk").and_then(|disk| disk.as_str()).map(str::to_owned)
    };
    assert_eq!(disk("").as_deref(), Some("/srv/t"));
    assert_eq!(disk("disk = '/home'").as_deref(), Some("/home"));
}
