//! What the corpus cannot see: threads, futures, dropping, and options.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use license_metering::{Client, FakeClient, Guard, Network, Options, Usage, UsageStatistics};

/// A service that takes every batch of usage, and whose verdicts nobody signs.
fn service() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(digits) = line.to_lowercase().strip_prefix("content-length:") {
                    length = digits.trim().parse().unwrap();
                }
                line.clear();
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            // In chunks, and after an interim answer, as proxies may send it.
            let answer = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 202 Accepted\r\n\
                Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\ne\r\n\"rejected\": []\r\n1\r\n}\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn many_threads_lose_no_usage() {
    let (url, requests) = service();
    let client = Client::new(Options::new(url, "lic_1")).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    client.record(Usage::new("exports", 1));
                }
            });
        }
    });
    assert!(client.flush(Duration::from_secs(20)));
    let sent = UsageStatistics {
        accepted: 4000,
        sent: 4000,
        ..UsageStatistics::default()
    };
    assert_eq!(client.usage_statistics(), sent);
    assert!(requests.load(Ordering::SeqCst) <= 40);
    client.close(Duration::from_secs(1));
    assert!(!client.record(Usage::new("exports", 1)));
}

#[test]
fn the_last_clone_that_is_dropped_sends_the_usage() {
    let (url, requests) = service();
    let client = Client::new(Options::new(url, "lic_1")).unwrap();
    let clone = client.clone();
    drop(client);
    assert!(clone.record(Usage::new("exports", 1)));
    drop(clone);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[test]
fn a_future_is_woken_when_the_answer_has_come() {
    let (url, _) = service();
    let client = Client::new(Options::new(url, "lic_1")).unwrap();
    let (first, second) = (
        client.validate_async("a.example.com"),
        client.validate_async("a.example.com"),
    );
    assert_eq!(wait_for(first).problem.as_deref(), Some("http_202"));
    assert_eq!(wait_for(second).problem.as_deref(), Some("http_202"));
}

#[test]
fn a_panic_of_the_applications_function_keeps_nobody_waiting() {
    let mut options = Options::new("http://127.0.0.1:9", "lic_1");
    options.on_problem = Arc::new(|_| panic!("the application's own"));
    options.pause_after_failure = Duration::ZERO;
    let client = Client::new(options).unwrap();
    for _ in 0..2 {
        assert_eq!(
            client.validate("a.example.com").problem.as_deref(),
            Some("connection")
        );
    }
}

#[test]
fn more_names_than_can_be_asked_about_at_once_are_asked_one_after_the_other() {
    let (url, requests) = service();
    let mut options = Options::new(url, "lic_1");
    options.pause_after_failure = Duration::ZERO;
    let client = Client::new(options).unwrap();
    let asked: Vec<_> = (0..100)
        .map(|number| client.validate_async(&format!("a{number}.example.com")))
        .collect();
    for validating in asked {
        assert_eq!(wait_for(validating).problem.as_deref(), Some("http_202"));
    }
    assert_eq!(requests.load(Ordering::SeqCst), 100);
}

#[test]
fn networks_are_addresses_and_ranges() {
    let contains = |network: &str, address: &str| {
        network
            .parse::<Network>()
            .unwrap()
            .contains(address.parse().unwrap())
    };
    assert!(contains("10.0.0.0/8", "10.255.0.1"));
    assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert!(!contains("10.0.0.0/8", "11.0.0.1"));
    assert!(!contains("10.0.0.0/8", "a00::1"));
    assert!(contains("0.0.0.0/0", "192.0.2.1"));
    assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
    assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
    assert!(contains("192.0.2.1", "192.0.2.1"));
    for text in ["10.0.0.0/33", "10.0.0.0/", "ten", "::/129", ""] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn without_a_peer_no_proxy_is_trusted() {
    let guard = Guard {
        domain: None,
        trusted_proxies: vec!["0.0.0.0/0".parse().unwrap()],
    };
    assert_eq!(
        guard.domain(None, "app.example.com", ["evil.example"]),
        "app.example.com"
    );
}

#[test]
fn the_test_double_remembers() {
    let fake = FakeClient::valid(["analytics"]);
    assert!(fake.validate("a.example.com").features.has("analytics"));
    assert!(fake.record(Usage::new("exports", 1)));
    assert_eq!(
        (fake.asked(), fake.recorded().len()),
        (vec!["a.example.com".to_string()], 1)
    );
}

#[test]
fn options_and_clients_do_not_print_secrets() {
    let mut options = Options::new("http://127.0.0.1:9", "lic_secret");
    options.token = Some("secret-token".into());
    let problems = Arc::new(Mutex::new(Vec::<String>::new()));
    let heard = problems.clone();
    options.on_problem = Arc::new(move |problem| heard.lock().unwrap().push(problem.into()));
    let client = Client::new(options.clone()).unwrap();
    let printed = format!(
        "{options:?} {client:?} {:?}",
        client.validate("a.example.com")
    );
    assert!(!printed.contains("secret"), "{printed}");
    assert_eq!(*problems.lock().unwrap(), ["connection"]);
}
