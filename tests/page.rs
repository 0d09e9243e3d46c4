//! Serial line → gateway → a real browser, in which a person sees it move.

use crate::support::{Broker, Browser, Home, Port};

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
