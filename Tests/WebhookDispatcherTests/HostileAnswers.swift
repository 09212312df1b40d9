/// Answers that no honest receiver gives. After each of them the connection is closed.
enum HostileAnswers {
  struct Answer: Sendable {
    var name: String
    var bytes: [UInt8]
    /// The status that may be believed, if any.
    var status: Int?

    init(_ name: String, _ text: String, status: Int? = nil) {
      self.name = name
      bytes = Array(text.utf8)
      self.status = status
    }
  }

  static let all: [Answer] = statusLines + heads + framings + floods

  private static let statusLines: [Answer] = [
    Answer("status 099", "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"),
    Answer("status 000", "HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n"),
    Answer("status 001", "HTTP/1.1 001 X\r\n\r\n"),
    Answer("status 1", "HTTP/1.1 1 X\r\n\r\n"),
    Answer("status 1000", "HTTP/1.1 1000 X\r\n\r\n"),
    Answer("status 99999999999999999999", "HTTP/1.1 99999999999999999999 X\r\n\r\n"),
    Answer("status -1", "HTTP/1.1 -1 X\r\n\r\n"),
    Answer("status 999", "HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n", status: 999),
    Answer("status 600", "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", status: 600),
    Answer("status 101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    Answer("status 100 alone", "HTTP/1.1 100 Continue\r\n\r\n"),
    Answer(
      "status 199 and 200",
      "HTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("no status", "HTTP/1.1\r\n\r\n"),
    Answer("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("HTTP/9.9", "HTTP/9.9 200 OK\r\n\r\n"),
    Answer("HTTP/0.9", "<html>hello</html>"),
    Answer("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", status: 200),
    Answer("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Answer("nothing", ""),
    Answer("one byte", "H"),
    Answer("only line ends", String(repeating: "\r\n", count: 100)),
    Answer("NULs", String(repeating: "\0", count: 1_000)),
    Answer("a reason of NULs", "HTTP/1.1 200 \0\0\0\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("a reason without end", "HTTP/1.1 200 " + String(repeating: "x", count: 100_000)),
    Answer("TLS instead of HTTP", "\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}\u{28}"),
    Answer("SMTP", "220 mail.example.com ESMTP\r\n"),
  ]

  private static let heads: [Answer] = [
    Answer("no colon", "HTTP/1.1 200 OK\r\nabc\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("no name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("folded", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", status: 200),
    Answer("bare CR", "HTTP/1.1 200 OK\rA: b\r\n\r\n", status: 200),
    Answer("a cut head", "HTTP/1.1 200 OK\r\nContent-Le"),
    Answer(
      "Retry-After of 10^30",
      "HTTP/1.1 429 X\r\nRetry-After: 1\(String(repeating: "0", count: 30))\r\n\r\n", status: 429),
    Answer(
      "Retry-After below 0", "HTTP/1.1 429 X\r\nRetry-After: -99999999999999999999\r\n\r\n",
      status: 429),
    Answer(
      "Retry-After in 9999", "HTTP/1.1 503 X\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n\r\n",
      status: 503),
    Answer(
      "Retry-After in year 0",
      "HTTP/1.1 503 X\r\nRetry-After: Sat, 01 Jan 0000 00:00:00 GMT\r\n\r\n", status: 503),
    Answer(
      "Retry-After of no sense", "HTTP/1.1 503 X\r\nRetry-After: \u{1}\u{2},,;\r\n\r\n", status: 503
    ),
  ]

  private static func framed(_ name: String, _ head: String, _ body: String = "ok") -> Answer {
    Answer(name, "HTTP/1.1 200 OK\r\n\(head)\r\n\r\n\(body)", status: 200)
  }

  private static let framings: [Answer] = [
    framed("length of 2^63", "Content-Length: 9223372036854775808"),
    framed("length of 2^64", "Content-Length: 18446744073709551616"),
    framed("length of 10^40", "Content-Length: 1" + String(repeating: "0", count: 40)),
    framed("length below 0", "Content-Length: -1"),
    framed("length with a sign", "Content-Length: +2"),
    framed("length in hexadecimal", "Content-Length: 0x2"),
    framed("length of nothing", "Content-Length:"),
    framed("two lengths", "Content-Length: 2\r\nContent-Length: 3"),
    framed("a list of lengths", "Content-Length: 2, 2"),
    framed("length and chunks", "Content-Length: 2\r\nTransfer-Encoding: chunked"),
    framed("too short a body", "Content-Length: 100"),
    framed("too long a body", "Content-Length: 1", "ok, and another HTTP/1.1 200 OK"),
    framed("chunk of 2^64", "Transfer-Encoding: chunked", "10000000000000000\r\n"),
    framed("chunk of 2^63", "Transfer-Encoding: chunked", "8000000000000000\r\n"),
    framed("chunk of -1", "Transfer-Encoding: chunked", "-1\r\n"),
    framed("chunk of nothing", "Transfer-Encoding: chunked", "\r\n\r\n"),
    framed("chunk without its end", "Transfer-Encoding: chunked", "2\r\nokok\r\n0\r\n\r\n"),
    framed("an unknown encoding", "Transfer-Encoding: gzip, chunked", "\u{1f}"),
    framed(
      "encoded twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    framed("said to be compressed", "Content-Encoding: gzip", "not compressed"),
    Answer("204 with a body", "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\nhello", status: 204),
    Answer("304", "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", status: 304),
  ]

  private static let floods: [Answer] = [
    Answer("interim answers", String(repeating: "HTTP/1.1 100 X\r\n\r\n", count: 5_000)),
    Answer("early hints", String(repeating: "HTTP/1.1 103 X\r\nLink: y\r\n\r\n", count: 5_000)),
    Answer("header fields", "HTTP/1.1 200 OK\r\n" + String(repeating: "a: b\r\n", count: 50_000)),
    Answer("one long field", "HTTP/1.1 200 OK\r\nA: " + String(repeating: "b", count: 300_000)),
    framed(
      "chunks of one byte", "Transfer-Encoding: chunked",
      String(repeating: "1\r\nx\r\n", count: 50_000)),
    framed(
      "an endless extension", "Transfer-Encoding: chunked",
      "1;" + String(repeating: "x", count: 200_000)),
    framed(
      "endless trailers", "Transfer-Encoding: chunked",
      "0\r\n" + String(repeating: "a: b\r\n", count: 50_000)),
    framed("an endless body", "Connection: close", String(repeating: "x", count: 500_000)),
  ]
}
