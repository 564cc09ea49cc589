//! A browser without a window, told what to do over the DevTools protocol.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Set where a browser must be had, as CI does: then a test without one fails.
const REQUIRED: &str = "WAYLINE_TESTS_NEED_BROWSER";
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// Longest time for any answer; the tests do not wait this long when all is well.
const PATIENCE: Duration = Duration::from_secs(90);

/// One page in a browser of its own, and all that it complained about or asked for.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    calls: u64,
    waiting: VecDeque<Value>,
    /// Errors and warnings of the console, exceptions, refusals of the policy, dialogues.
    pub complaints: Vec<String>,
    /// Addresses of all requests but those of data.
    pub requests: Vec<String>,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.call("Browser.close", json!({}));
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts one. Where there is none it is `None` and a line says so: the test is skipped.
    pub fn start() -> Option<Self> {
        let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
        let Some(name) = NAMES.into_iter().find(is_there) else {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but there is no browser");
            let line = "skipped: there is no browser; the test runs after tests/browser/install.sh\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // The browser listens on descriptor 3 and answers on 4; these are our ends of its stdin and stdout.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh", name, "--headless", "--no-sandbox"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"])
            .args(["--force-device-scale-factor=1", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            input,
            answers,
            session: None,
            calls: 0,
            waiting: VecDeque::new(),
            complaints: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(str::to_string);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Goes to an address and waits until all of it is there.
    pub fn open(&mut self, url: &str) {
        self.waiting.clear();
        self.call("Page.navigate", json!({ "url": url }));
        self.wait_for("Page.loadEventFired");
        self.settle();
    }

    /// The value of an expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let asked = Instant::now();
        while self.value(expression) != json!(true) {
            let page = self.value("document.body.innerText.slice(0, 2000)");
            assert!(asked.elapsed() < PATIENCE, "never true: {expression}\n{}", page.as_str().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How wide and high the window is, and what the reader prefers.
    pub fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.settle();
    }

    /// Presses a key that types nothing, or Enter.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowDown" => 40,
            other => panic!("which key is {other}?"),
        };
        let mut event = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code});
        if key == "Enter" {
            event["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event);
    }

    /// The page as it is printed: Base64 of a PDF.
    pub fn print(&mut self) -> String {
        self.call("Page.printToPDF", json!({}))["data"].as_str().unwrap().to_string()
    }

    /// Waits until what was to be drawn is: two frames, and the pause after a change of size.
    fn settle(&mut self) {
        let frames =
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 250))";
        self.value(&format!("{frames}.then(() => true)"));
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let mut answer = self.receive(method);
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.waiting.push_back(answer);
        }
    }

    fn wait_for(&mut self, event: &str) {
        loop {
            let happened = match self.waiting.pop_front() {
                Some(happened) => happened,
                None => self.receive(event),
            };
            if happened["method"] == event {
                return;
            }
        }
    }

    fn receive(&mut self, waiting_for: &str) -> Value {
        let message = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {waiting_for}"));
        let parameters = &message["params"];
        let is_wrong = |level: &Value| level == "error" || level == "warning" || level == "assert";
        match message["method"].as_str() {
            Some("Runtime.consoleAPICalled") if is_wrong(&parameters["type"]) => {
                self.complaints.push(parameters["args"].to_string());
            }
            Some("Log.entryAdded") if is_wrong(&parameters["entry"]["level"]) => {
                self.complaints.push(parameters["entry"]["text"].to_string());
            }
            Some("Runtime.exceptionThrown") => self.complaints.push(parameters["exceptionDetails"].to_string()),
            Some("Page.javascriptDialogOpening") => self.complaints.push(format!("a dialogue: {parameters}")),
            Some("Network.requestWillBeSent") => {
                let url = parameters["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("data:") && url != "about:blank" {
                    self.requests.push(url.to_string());
                }
            }
            _ => {}
        }
        message
    }
}
