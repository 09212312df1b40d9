import Foundation
import Metering
import Recount
import Testing

@Suite("Lines of access logs")
struct AccessLogTests {
  private func parse(
    _ line: String, _ format: AccessLogFormat = .combined
  ) throws(AccessLogError) -> AccessLogLine {
    try AccessLogLine.parse(bytes(line), format: format)
  }

  private let line =
    #"203.0.113.9 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.1" 200 2326"#
  private let tail = #" "http://example.com/" "Mozilla/5.0 (X11)""#

  @Test("A combined line gives all its fields")
  func readsCombinedLines() throws {
    let expected = AccessLogLine(
      host: "203.0.113.9", timeMilliseconds: 971_211_336_000, method: "GET", path: "/a?b=c",
      status: 200, bytes: 2326, referrer: "http://example.com/", userAgent: "Mozilla/5.0 (X11)",
      virtualHost: nil)
    #expect(try parse(line + tail) == expected)
    #expect(try parse(line + tail + "\r\n") == expected)
    let virtual = try parse("example.com:443 " + line + tail, .vhost_combined)
    #expect(virtual.virtualHost == "example.com")
    #expect(virtual.host == "203.0.113.9")
    #expect(try parse("example.com " + line + tail, .vhost_combined) == virtual)
    let common = try parse(line, .common)
    #expect(common.path == "/a?b=c" && common.referrer == nil && common.userAgent == nil)
  }

  @Test("Bytes, referrer and agent may be a hyphen, empty or missing")
  func toleratesMissingFields() throws {
    let start = #"h - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 304 -"#
    for end in [#" "-" "-""#, #" "" """#, "", #" "-""#] {
      let parsed = try parse(start + end)
      #expect(parsed.bytes == 0)
      #expect(parsed.referrer == nil && parsed.userAgent == nil)
    }
    #expect(try parse(start + #" "-" "curl""#).userAgent == "curl")
  }

  @Test("Escaped quotes and backslashes are resolved, and other escapes stay as written")
  func readsEscapes() throws {
    let parsed = try parse(
      #"h - - [17/May/2015:10:05:03 +0000] "GET /\"a\\b HTTP/1.1" 200 1 "\xe4\xe5" "a \"b\" \\""#)
    #expect(parsed.path == #"/"a\b"#)
    #expect(parsed.referrer == #"\xe4\xe5"#)
    #expect(parsed.userAgent == #"a "b" \"#)
  }

  @Test(
    "IPv6 hosts and hosts by name are read",
    arguments: [
      "::1", "2001:db8::ff00:42:8329", "[2001:db8::1]", "fe80::1%eth0", "crawl-1.example.net",
    ])
  func readsHosts(host: String) throws {
    let rest = #" - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "-""#
    #expect(try parse(host + rest).host == host)
    let virtual = try parse("[2001:db8::2]:8080 " + host + rest, .vhost_combined)
    #expect(virtual.host == host)
    #expect(virtual.virtualHost == "[2001:db8::2]")
  }

  @Test("Requests that are not HTTP are kept as they are, without a method")
  func readsOddRequests() throws {
    let cases: [(String, String, String)] = [
      ("-", "", ""), (#"\x16\x03\x01"#, "", #"\x16\x03\x01"#), ("GET /", "GET", "/"),
      ("GET /a b HTTP/1.0", "GET", "/a b"), ("M-SEARCH * HTTP/1.1", "M-SEARCH", "*"),
      ("OPTIONS * HTTP/1.1", "OPTIONS", "*"), ("", "", ""), ("GET", "", "GET"),
      ("GET ", "", "GET "),
    ]
    for (request, method, path) in cases {
      let parsed = try parse(#"h - - [17/May/2015:10:05:03 +0000] "\#(request)" 400 0 "-" "-""#)
      #expect(parsed.method == method && parsed.path == path, "\(request)")
    }
  }

  @Test("A line that is cut off in its last fields still counts, because its request is whole")
  func readsCutLines() throws {
    #expect(try parse(line + #" "http://example.com/" "Mozi"#).userAgent == "Mozi")
    #expect(try parse(line + #" "http://exa"#).referrer == "http://exa")
  }

  @Test("A user's name may have spaces")
  func readsUsersWithSpaces() throws {
    let spaced = line.replacingOccurrences(of: "frank", with: "Frank N. Stein")
    #expect(try parse(spaced + tail).status == 200)
  }

  static let time = "[17/May/2015:10:05:03 +0000]"
  static let refused: [(String, AccessLogFormat)] = [
    ("", .combined), ("\n", .combined), ("hello world", .combined), ("{\"a\":1}", .combined),
    ("# comment", .combined), ("Nov 23 18:40:00 host sshd[1]: Accepted", .combined),
    ("h - \(time) \"GET / HTTP/1.1\" 200 1", .combined),
    (" h - - \(time) \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - 17/May/2015:10:05:03 \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/Mai/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [31/Apr/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/May/2015:24:05:03 +0000] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/May/2015:10:60:03 +0000] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/May/2015:10:05:03] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/May/2015:10:05:03 0000] \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - [17/May/2015:10:05:03 +0000 \"GET / HTTP/1.1\" 200 1", .combined),
    ("h - - \(time) GET / HTTP/1.1 200 1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1 200 1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\"", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 20 1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 2000 1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 099 1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 x", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 -1", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 99999999999999999999", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 1 -", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\" \"-\" \"-\"", .combined),
    ("h - \"frank \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .combined),
    ("h\u{FEFF} - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .common),
    ("v:80 h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .combined),
    ("v:80 h - frank \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .vhost_combined),
    ("v:x h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", .vhost_combined),
    ("h - - \(time) \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"h - - \(time)", .combined),
  ]

  @Test("A line that does not follow the format is refused with a reason", arguments: refused)
  func refusesOtherLines(line: String, format: AccessLogFormat) {
    let error = #expect(throws: AccessLogError.self) { try parse(line, format) }
    #expect(error?.reason.isEmpty == false)
  }

  @Test(arguments: [#""""#, #"a\"b"#, #"\""#, "a[b", "a [b", "frank ]", #"a\\"#])
  func `A user may be empty, quoted by escapes, or hold brackets`(user: String) throws {
    let parsed = try parse(
      "h - \(user) \(Self.time) \"GET /x HTTP/1.1\" 200 1 \"-\" \"-\"")
    #expect(parsed.path == "/x" && parsed.timeMilliseconds == 1_431_857_103_000)
  }

  @Test(arguments: ["000", "-"])
  func `A status that the server never sent is 0`(status: String) throws {
    #expect(
      try parse("h - - \(Self.time) \"-\" \(status) 0 \"-\" \"-\"").status == 0)
  }

  @Test(arguments: [AccessLogFormat.combined, .main])
  func `The format main of nginx.org is read`(format: AccessLogFormat) throws {
    let parsed = try parse(line + tail + #" "198.51.100.7, 10.0.0.1""#, format)
    #expect(parsed.host == "203.0.113.9" && parsed.userAgent == "Mozilla/5.0 (X11)")
  }

  @Test(arguments: ["\0", "\0\0\0\0\0", "\u{FEFF}", "\u{FEFF}\0\0", "\0\u{FEFF}"])
  func `NULs and a byte order mark before a line are not part of its host`(start: String) throws {
    #expect(try parse(start + line + tail).host == "203.0.113.9")
  }

  // MARK: Paths

  private func segment(_ target: String) throws -> String {
    let parsed = try parse("h - - \(Self.time) \"GET \(target) HTTP/2.0\" 200 1 \"-\" \"-\"")
    return try RequestPath.firstSegment(of: parsed.target[...])
  }

  @Test(
    arguments: [
      "/lic_pct", "/lic_pct/", "/lic%5Fpct/", "//lic_pct/", "/./lic_pct/", "/x/../lic_pct/",
      "/lic_pct;jsessionid=1", "/lic_pct;v=1/a", "http://host/lic_pct/", "HTTPS://h:8443/lic_pct?a",
      "/%6c%69%63%5f%70%63%74", "/../lic_pct", "/%2e/lic_pct", "/x/%2E%2e/lic_pct", "/..;/lic_pct",
      "/lic_pct?x=/y", "/lic_pct#f", "/;a/lic_pct", "/./x/.././/lic_pct", #"/lic\x5Fpct/"#,
      "http://host//lic_pct", "/lic_pct/../lic_pct",
    ])
  func `One path in any of its spellings names one license`(target: String) throws {
    #expect(try segment(target) == "lic_pct")
  }

  @Test func `What the client escaped is decoded once, by the server's log and by the path`() throws
  {
    #expect(try segment("/M%C3%BCller") == "Müller")
    #expect(try segment(#"/M\xC3\xBCller"#) == "Müller")
    #expect(try segment("/Müller") == "Müller")
    #expect(try segment("/a%2541") == "a%41")
    #expect(try segment("/a%3Bb") == "a;b")
    #expect(try segment(#"/a\x22b"#) == "a\"b")
    #expect(try segment(#"/a\\x22b"#) == #"a\x22b"#)
    #expect(try segment("/A") == "A")
  }

  @Test(
    arguments: [
      "*", "host:443", "/", "//", "/..", "/a/..", "?x", "/?x", "http://host", "/a%2Fb", "/a%",
      "/a%4", "/a%zz", "/%ff", "ftp://host/a", "/;a", #"\x16\x03"#,
    ])
  func `A target without a first segment of its own is refused`(target: String) {
    #expect(throws: AccessLogError.self) { try segment(target) }
  }

  // MARK: The sample

  static let sample = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../../shared/data/access-log/access.log").standardizedFileURL

  @Test(
    "All 10,000 lines of the sample are read, and hosts per hour are what a plain split counts",
    .enabled(if: FileManager.default.fileExists(atPath: sample.path)))
  func readsTheSample() throws {
    let lines = [UInt8](try Data(contentsOf: Self.sample)).split(separator: UInt8(ascii: "\n"))
    #expect(lines.count == 10_000)
    var counted: [String: Int] = [:]
    var plain: [String: Int] = [:]
    var bytesCounted: Int64 = 0
    var bytesPlain: Int64 = 0
    for line in lines {
      let parsed = try AccessLogLine.parse(line, format: .combined)
      counted["\(parsed.host) \(parsed.timeMilliseconds / 3_600_000)", default: 0] += 1
      bytesCounted += parsed.bytes
      // An independent check by position: all lines are of May 2015 and in UTC. Day 16,556 is
      // 2015-05-01.
      let words = String(decoding: line, as: UTF8.self).split(separator: " ")
      let parts = words[3].dropFirst().split(whereSeparator: { $0 == "/" || $0 == ":" })
      try #require(parts[1] == "May" && parts[2] == "2015" && words[4] == "+0000]")
      let hour = try (16_556 + #require(Int(parts[0])) - 1) * 24 + #require(Int(parts[3]))
      plain["\(words[0]) \(hour)", default: 0] += 1
      bytesPlain += Int64(words[9]) ?? 0
    }
    #expect(counted == plain)
    #expect(bytesCounted == bytesPlain)
  }
}
