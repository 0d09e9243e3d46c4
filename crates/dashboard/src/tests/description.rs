//! `openapi.json` and `docs/api.md`: what they say is what the gateway does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use expect_test::expect_file;
use serde_json::Value as Json;

use super::support::Dashboard;
use crate::http::Limits;
use crate::routes::{Need, ROUTES};
use crate::{Config, View};

fn description() -> Json {
    serde_json::from_str(include_str!("../../openapi.json")).expect("it is JSON")
}

/// Each operation: method, path, and what is said of it.
fn operations(description: &Json) -> Vec<(String, String, Json)> {
    let mut found = Vec::new();
    for (method, path, _) in ROUTES {
        let operation = &description["paths"][path][method.to_lowercase()];
        found.push(((*method).to_owned(), (*path).to_owned(), operation.clone()));
    }
    found
}

fn word(need: Need) -> &'static str {
    match need {
        Need::Nothing => "nothing",
        Need::Look => "look",
        Need::Write => "write",
        Need::Login => "login",
        Need::Control => "control",
    }
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let description = description();
    let described: BTreeSet<String> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let routed = ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(described, routed);
    for ((_, path, need), (_, _, operation)) in ROUTES.iter().zip(operations(&description)) {
        assert_eq!(operation["x-needs"], word(*need), "{path}");
        assert!(operation["operationId"].is_string(), "{path}");
    }
}

/// The table that docs/api.md shows: what somebody without login or token gets.
fn anonymous(need: Need, view: View) -> u16 {
    match (need, view) {
        (Need::Nothing, _) | (Need::Look, View::Lan | View::Anyone) => 200,
        (Need::Look, View::Nobody) | (Need::Write | Need::Login, _) => 401,
        (Need::Control, _) => 403,
    }
}

#[tokio::test]
async fn somebody_without_a_login_gets_what_the_docs_say() {
    for view in [View::Lan, View::Nobody] {
        let config = Config { view, ..Config::default() };
        let mut dashboard = Dashboard::with(config, Limits::default()).await;
        dashboard.keep("weather/temperature", 3).await;
        for (method, path, need) in ROUTES {
            let real = path
                .replace("{device}/{channel}", "panel/pump")
                .replace("{name}", "script")
                .replace("/readings", "/readings?channel=weather/temperature")
                .replace("?channel=weather/temperature.csv", ".csv?channel=weather/temperature");
            let answer = dashboard.send(&format!("{method} {real}"), "{}", &[]).await;
            let expected = match (anonymous(*need, view), *path) {
                // Let in, they ask for an upgrade, or for a good password.
                (200, "/api/v1/live") => 426,
                (200, "/api/v1/login" | "/api/v1/setup") => 400,
                (other, _) => other,
            };
            assert_eq!(answer.status, expected, "{method} {path}, {view:?}: {answer:?}");
            let said = &description()["paths"][path][method.to_lowercase()]["responses"];
            assert!(
                said[answer.status.to_string()].is_object(),
                "{path}: {} is not said",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let dashboard = Dashboard::start().await;
    assert_eq!(dashboard.json("/api/openapi.json").await, description());
}

#[test]
fn the_page_about_the_api_is_made_of_it() {
    let description = description();
    let mut page = String::from(
        "# The API\n\n\
         Made from `crates/dashboard/openapi.json`, which a running gateway serves at\n\
         `/api/openapi.json`: `UPDATE_EXPECT=1 cargo test -p dashboard description`.\n\
         The feed's messages are in [protocol.md](protocol.md).\n\n\
         Errors are `{\"error\":\"…\"}` with the status; a body of a request is JSON, declared as\n\
         `Content-Type: application/json`, of at most 64 KiB.\n\n\
         ## Who may\n\n\
         | needs | who has it | without a login or token: `view` lets look | … does not |\n\
         | --- | --- | --- | --- |\n",
    );
    for (need, who) in [
        (Need::Nothing, "everybody"),
        (Need::Look, "whom `dashboard.view` lets look, a login, a token"),
        (Need::Write, "a login, a token made with `--write`"),
        (Need::Login, "a login"),
        (Need::Control, "the control socket: root, the gateway's own user"),
    ] {
        let (open, closed) = (anonymous(need, View::Lan), anonymous(need, View::Nobody));
        writeln!(page, "| {} | {who} | {open} | {closed} |", word(need)).unwrap();
    }
    page += "\nThe control socket may do everything. A login is the cookie that `POST /api/v1/login` sets;\n\
             a token is sent as `Authorization: Bearer …`. The page's own files need nothing.\n\n\
             ## Routes\n\n| route | needs | what |\n| --- | --- | --- |\n";
    for (method, path, operation) in operations(&description) {
        let (need, summary) = (&operation["x-needs"], &operation["summary"]);
        let (need, summary) = (need.as_str().unwrap(), summary.as_str().unwrap());
        writeln!(page, "| `{method} {path}` | {need} | {summary} |").unwrap();
    }
    for (method, path, operation) in operations(&description) {
        describe(&mut page, &method, &path, &operation);
    }
    page += "\n## Shapes\n";
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        writeln!(page, "\n### {name}\n\n{}", shape(schema)).unwrap();
    }
    expect_file!["../../../../docs/api.md"].assert_eq(&page);
}

fn describe(page: &mut String, method: &str, path: &str, operation: &Json) {
    writeln!(page, "\n### {method} {path}\n").unwrap();
    let about = format!("{}. {}", text(&operation["summary"]), text(&operation["description"]));
    writeln!(page, "{}", about.trim_end()).unwrap();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, about) = (text(&parameter["name"]), text(&parameter["description"]));
        let needed = if parameter["required"] == true { ", needed" } else { "" };
        write!(page, "\n- `{name}`{needed}: {about}").unwrap();
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if body.is_object() {
        write!(page, "\n\nBody:\n\n{}", shape(body)).unwrap();
    }
    page.push_str(if body.is_object() || operation["parameters"].is_array() {
        "\n\n"
    } else {
        "\n"
    });
    page.push_str("| status | when | body |\n| --- | --- | --- |\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let body = response["content"].as_object().and_then(|content| content.iter().next());
        let body = body.map_or(String::new(), |(kind, body)| {
            let name = body["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
            name.map_or_else(|| format!("`{kind}`"), str::to_owned)
        });
        writeln!(page, "| {status} | {} | {body} |", text(&response["description"])).unwrap();
    }
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

/// The fields of an object, one a line.
fn shape(schema: &Json) -> String {
    let Some(fields) = schema["properties"].as_object() else { return kind(schema) };
    let needed = |name: &str| {
        schema["required"].as_array().is_some_and(|all| all.iter().any(|field| field == name))
    };
    let line = |(name, field): (&String, &Json)| {
        let about = text(&field["description"]);
        let optional = if needed(name) { "" } else { ", may be absent" };
        let about = if about.is_empty() { String::new() } else { format!(": {about}") };
        format!("- `{name}` ({}{optional}){about}", kind(field))
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn kind(schema: &Json) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return name.to_owned();
    }
    if let Some(several) = schema["oneOf"].as_array().or(schema["enum"].as_array()) {
        let one =
            |schema: &Json| schema.as_str().map_or_else(|| kind(schema), |s| format!("`{s}`"));
        return several.iter().map(one).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Json::Array(several) => several.iter().map(text).collect::<Vec<_>>().join(" or "),
        Json::String(kind_) if kind_ == "array" => format!("list of {}", kind(&schema["items"])),
        other => match text(&schema["format"]) {
            "date-time" => "time".to_owned(),
            _ => text(other).to_owned(),
        },
    }
}
