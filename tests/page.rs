//! Serial line → gateway → a real browser, in which a person sees it move.

use serde_json::{Value, json};

use crate::support::{Broker, Browser, Gateway, Home, Port, eventually};

const PASSWORD: &str = "correct horse battery";

fn page(gateway: &Gateway, view: &str) -> String {
    format!("http://{}/#/{view}", gateway.address())
}

/// The way in that the first start shows.
#[track_caller]
fn set_password(gateway: &Gateway, browser: &Browser) {
    let link = eventually("the link is in the log", || {
        let log = gateway.log();
        let at = log.find("/#/setup?token=")?;
        Some(log[at..].split_whitespace().next()?.to_owned())
    });
    // From another page: the link alone, after a `#`, would load nothing.
    browser.go("about:blank");
    browser.go(&format!("http://{}{link}", gateway.address()));
    browser.type_into("#password", PASSWORD);
    browser.type_into("#again", PASSWORD);
    browser.click("form .main");
    browser.shows("Log out");
}

/// Has what the page saves kept where the test can read it.
fn keep_files(browser: &Browser) {
    browser.run(
        "window.saved = []; const make = URL.createObjectURL; \
         URL.createObjectURL = blob => { blob.text().then(text => saved.push(text)); return make.call(URL, blob); }",
    );
}

#[track_caller]
fn saved(browser: &Browser) -> String {
    browser.click(".csv");
    eventually("a file is saved", || {
        browser.run("return saved.pop() ?? null").as_str().map(str::to_owned)
    })
}

#[test]
fn a_person_sees_a_value_change() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();
    port.line("{\"n\":21.5}");
    let browser = Browser::open(&format!("http://{}/", gateway.address()), 1280, 900);
    browser.shows("21.5");
    port.line("{\"n\":37.5}");
    browser.shows("37.5");
    let text = browser.text();
    assert!(!text.contains("21.5"), "the old value is gone:\n{text}");
    assert!(text.to_lowercase().contains("weather"), "the device's name:\n{text}");
    browser.screenshot("page");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn on_a_phone_nothing_has_to_be_scrolled_sideways() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.line("{\"n\":21.5}");
    let browser = Browser::open(&format!("http://{}/", gateway.address()), 390, 844);
    browser.shows("21.5");
    let wider = browser
        .run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
    browser.screenshot("page-phone");
    assert_eq!(wider.as_f64(), Some(0.0), "pixels beyond the right edge");
}

#[test]
fn the_page_tells_of_a_broker_away_and_of_a_gateway_gone() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();
    port.line("{\"n\":21.5}");
    let browser = Browser::open(&format!("http://{}/", gateway.address()), 1280, 900);
    browser.shows("21.5");
    broker.stop();
    browser.shows("offline");
    browser.screenshot("page-broker-away");

    gateway.kill();
    browser.shows("No connection to greenhouse");
    browser.screenshot("page-gateway-gone");

    // And comes back by itself, with what is true then.
    let gateway = home.start();
    port.plug_again();
    port.opened();
    port.line("{\"n\":37.5}");
    browser.shows("37.5");
    gateway.stop();
}

#[test]
fn history_survives_a_restart_and_the_hole_is_named() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.line("{\"n\":11.5}");
    eventually("it is stored", || {
        let history = gateway.get("/api/v1/readings?channel=weather/n").json();
        (!history["readings"].as_array()?.is_empty()).then_some(())
    });
    gateway.stop();
    // Longer than one of the chart's buckets, which would hold both readings.
    std::thread::sleep(std::time::Duration::from_secs(3));

    let gateway = home.start();
    port.plug_again();
    port.opened();
    port.line("{\"n\":37.5}");
    let browser = Browser::open(&page(&gateway, "weather/n"), 1280, 900);
    browser.shows("37.5");
    // The lowest of the chart is of before the restart.
    browser.shows("11.5");
    keep_files(&browser);
    let csv = saved(&browser);
    assert!(csv.contains(",weather/n,Cel,11.5,11.5,11.5,1,"), "{csv}");
    assert!(csv.contains(",weather/n,Cel,37.5,37.5,37.5,1,"), "{csv}");
    browser.go(&page(&gateway, "system"));
    browser.shows("The gateway started");
}

#[test]
fn a_zoomed_chart_saves_what_the_api_gives() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.count_at(50, 0..150);
    let browser = Browser::open(&page(&gateway, "weather/n"), 1280, 900);
    browser.shows("149");
    let pressed =
        browser.run("return document.querySelector('.ranges [aria-pressed=true]').innerText");
    assert_eq!(pressed, "15 min");
    browser.drag_over(".u-over", 0.2, 0.985);
    browser.shows("Back to live");
    // What the page asked for last is what it shows.
    let asked = "return performance.getEntriesByType('resource').map(e => e.name) \
                 .filter(name => name.includes('/readings?') && name.includes('to=')).at(-1) ?? null";
    let asked = eventually("the page asks for the span", || {
        browser.run(asked).as_str().map(|url| url.split_once("/api").unwrap().1.to_owned())
    });
    keep_files(&browser);
    let csv = saved(&browser);
    let path = format!("/api{}", asked.replace("/readings?", "/readings.csv?"));
    assert_eq!(csv, gateway.get(&path).text());
    assert!(csv.lines().count() > 20, "{csv}");
    browser.click(".ranges .fixed");
    let live = "return document.querySelector('.ranges .fixed') === null";
    eventually("it is live again", || (browser.run(live) == true).then_some(()));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

const PANEL: &str = "[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\n\
    [device.panel.channel]\n\
    pump = { line = 22, direction = \"output\", label = \"Pump\" }\n\
    door = { line = 17, label = \"Door\" }\n";

#[test]
fn who_logs_in_switches_an_output_and_who_does_not_cannot() {
    let home = Home::new(PANEL);
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    let browser = Browser::open(&page(&gateway, ""), 390, 844);
    browser.shows("Pump");
    let switches = "return document.querySelectorAll('[role=switch]').length";
    assert_eq!(browser.run(switches), 0, "nobody is logged in");
    set_password(&gateway, &browser);
    let token = browser.run("return location.href.includes('token') || document.cookie !== ''");
    assert_eq!(token, false, "neither the link nor the cookie is left where a script finds it");

    browser.click("[role=switch]");
    let on =
        "return document.querySelector('[role=switch]').getAttribute('aria-checked') === 'true'";
    eventually("the switch is on", || (browser.run(on) == true).then_some(()));
    browser.shows("On");
    let channels = gateway.get("/api/v1/channels").json();
    let pump = channels["channels"].as_array().unwrap().iter().find(|c| c["name"] == "pump");
    assert_eq!(pump.unwrap()["last"]["value"], true, "the gateway has read it back");
    browser.screenshot("page-switch");

    browser.click(".account");
    eventually("it is logged out", || (browser.run(switches) == 0).then_some(()));
    browser.click(".account");
    browser.type_into("#password", "something else");
    browser.click("dialog .main");
    browser.shows("the password is wrong");
    browser.screenshot("page-login-wrong");
    browser.type_into("#password", PASSWORD);
    browser.click("dialog .main");
    browser.shows("Log out");
}

#[test]
fn nothing_of_a_closed_gateway_shows_before_the_login() {
    let home = Home::new(
        "view = \"nobody\"\n[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\n\
        [device.panel.channel]\ndoor = { line = 17, label = \"Cellar door\" }\n",
    );
    let gateway = home.start();
    let browser = Browser::open(&page(&gateway, ""), 1280, 900);
    browser.shows("This gateway shows nothing without a login.");
    assert!(!browser.text().contains("Cellar door"));
    set_password(&gateway, &browser);
    browser.shows("Cellar door");
}

/// What axe finds wrong on the page as it is now.
#[track_caller]
fn faults(browser: &Browser) -> Vec<String> {
    const AXE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboard/web/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(AXE).expect("npm ci in crates/dashboard/web brings axe");
    let run = "return axe.run(document, { resultTypes: ['violations'] }).then(found => \
               found.violations.flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${node.html}`)))";
    let found = browser.run(&format!("{axe}\n{run}"));
    let found = found.as_array().expect("axe ran").iter();
    found.map(|fault| fault.as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn axe_finds_nothing_in_light_and_in_dark() {
    let mut port = Port::new();
    let home = Home::new(&(port.config() + PANEL));
    let gateway = home.start();
    port.opened();
    port.line("{\"n\":21.5}");
    let browser = Browser::open(&page(&gateway, ""), 390, 844);
    set_password(&gateway, &browser);
    browser.shows("21.5");
    let background = "return getComputedStyle(document.body).backgroundColor";
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        backgrounds.push(browser.run(background));
        for (view, there) in [
            ("", ".groups canvas"),
            ("weather/n+panel/pump", ".plot canvas"),
            ("panel/pump", ".timeline"),
            ("system", ".tokens"),
        ] {
            browser.go(&page(&gateway, view));
            let there = format!("return document.querySelector({there:?}) !== null");
            eventually("the view is there", || (browser.run(&there) == true).then_some(()));
            assert_eq!(faults(&browser), Vec::<String>::new(), "{scheme}, {view:?}");
            let wider = "return document.documentElement.scrollWidth - innerWidth";
            assert!(
                browser.run(wider).as_f64() <= Some(0.0),
                "{scheme}, {view:?}: scrolls sideways"
            );
        }
        browser.screenshot(&format!("page-{scheme}"));
    }
    assert_ne!(backgrounds[0], backgrounds[1], "dark is dark");
    browser.click(".account");
    browser.shows("Log in");
    browser.click(".account");
    browser.click("#password");
    assert_eq!(faults(&browser), Vec::<String>::new(), "the dialog");
    assert_ne!(browser.run("return document.activeElement.id"), Value::Null);
}

/// A wire that picks up noise: where its changes went.
#[test]
fn what_is_lost_is_shown_with_its_cause_by_channel_and_as_a_hole() {
    let home = Home::new(
        "[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\n\
         [device.panel.channel]\ndoor = { line = 17, toggle = \"1ms\" }\n",
    );
    let gateway = home.start();
    eventually("a gap is told", || {
        let gaps = gateway.get("/api/v1/gaps").json();
        (!gaps["gaps"].as_array()?.is_empty()).then_some(())
    });
    let browser = Browser::open(&page(&gateway, "system"), 1280, 900);
    browser.shows("Lost, by cause");
    browser.shows("edges missed");
    browser.shows("readings of panel/door missing over");
    browser.shows("Balances");
    browser.click("section[aria-labelledby=ledger] summary");
    let row = "return document.querySelector('section[aria-labelledby=ledger] table').innerText";
    let table = browser.run(row);
    assert!(table.as_str().unwrap().contains("panel/door"), "{table}");
    browser.screenshot("ledger");
    browser.go(&page(&gateway, "panel/door"));
    browser.shows("edges missed");
    browser.shows(" dropped");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    gateway.stop();
}
