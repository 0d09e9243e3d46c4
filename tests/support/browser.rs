use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{eventually, free_port, http};

/// A real Chromium without a window, driven as W3C WebDriver says.
pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Opens a page in a window of this size.
    #[track_caller]
    pub(crate) fn open(url: &str, width: u32, height: u32) -> Browser {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let profile = tempfile::Builder::new().prefix("tidemill-browser-").tempdir().unwrap();
        let session = String::new();
        let mut browser = Browser { driver, address, session, _profile: profile };
        eventually("chromedriver answers", || {
            let status = http::get(&browser.address, "/status").ok()?.json();
            (status["value"]["ready"] == true).then_some(())
        });
        let created = browser.ask("POST", "/session", &browser.capabilities(width, height));
        browser.session = created["sessionId"].as_str().expect("a session").to_owned();
        browser.ask("POST", &browser.path("/url"), &json!({ "url": url }));
        browser
    }

    fn capabilities(&self, width: u32, height: u32) -> Value {
        let size = format!("--window-size={width},{height}");
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        // No sandbox: it can't be made as root, nor in many a container. No
        // /dev/shm for the same reason.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            &size,
            &profile,
        ];
        json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}})
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}{rest}", self.session)
    }

    /// One WebDriver command; its `value`.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [("Host", self.address.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = http::request(&self.address, method, path, &headers, &body).unwrap();
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["value"].clone()
    }

    /// Runs the body of a function in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.ask("POST", &self.path("/execute/sync"), &body)
    }

    /// Goes to another page.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.ask("POST", &self.path("/url"), &json!({ "url": url }));
    }

    /// Presses what a CSS selector finds first, as soon as it is there and can
    /// be pressed.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let path = self.element(selector);
        self.ask("POST", &format!("{path}/click"), &json!({}));
    }

    /// Types into a field in place of what it holds.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let path = self.element(selector);
        self.ask("POST", &format!("{path}/clear"), &json!({}));
        self.ask("POST", &format!("{path}/value"), &json!({ "text": text }));
    }

    /// Drags the mouse over an element, from one share of its width to another.
    #[track_caller]
    pub(crate) fn drag_over(&self, selector: &str, from: f64, to: f64) {
        self.element(selector);
        let place = self.run(&format!(
            "const r = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [r.left, r.width, r.top + r.height / 2]"
        ));
        let [left, width, y] = [0_usize, 1, 2].map(|i| place[i].as_f64().expect("a number"));
        let events = [
            ("mouseMoved", from),
            ("mousePressed", from),
            ("mouseMoved", to),
            ("mouseReleased", to),
        ];
        for (event, share) in events {
            let x = left + width * share;
            let pressed =
                json!({ "type": event, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.devtools("Input.dispatchMouseEvent", &pressed);
        }
    }

    /// A command of the browser's own protocol, for what WebDriver lacks.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.ask("POST", &self.path("/goog/cdp/execute"), &body);
    }

    /// The path of an element's commands, once it is there and not disabled.
    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let ready = format!(
            "return Boolean(document.querySelector({selector:?} + ':enabled, ' + {selector:?} + ':not(button, input)'))"
        );
        eventually(&format!("{selector} can be used"), || (self.run(&ready) == true).then_some(()));
        let found = json!({ "using": "css selector", "value": selector });
        let found = self.ask("POST", &self.path("/element"), &found);
        let id = found.as_object().and_then(|ids| ids.values().next()?.as_str()).expect("an id");
        self.path(&format!("/element/{id}"))
    }

    /// What a person can read on the page.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows a text.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        let mut last = String::new();
        let mut seen = || {
            last = self.text();
            last.contains(text).then_some(())
        };
        let what = format!("the page shows {text:?}");
        // With the page's text and picture, which say more than a time-out.
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, &mut seen);
        }));
        if shown.is_err() {
            self.screenshot("failure");
            panic!("{what}: not so; it shows\n{last}");
        }
    }

    /// What the page and the browser complained of.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", &self.path("/se/log"), &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let serious = entries.into_iter().filter(|entry| entry["level"] == "SEVERE");
        serious.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A picture in target/screenshots, for people.
    pub(crate) fn screenshot(&self, name: &str) -> PathBuf {
        let picture = self.ask("GET", &self.path("/screenshot"), &Value::Null);
        let picture = BASE64.decode(picture.as_str().unwrap_or_default().as_bytes()).unwrap();
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.png"));
        std::fs::write(&file, picture).unwrap();
        file
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; the driver alone would leave it behind.
        if !self.session.is_empty() {
            let path = self.path("");
            drop(http::request(&self.address, "DELETE", &path, &[("Host", &self.address)], b""));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
