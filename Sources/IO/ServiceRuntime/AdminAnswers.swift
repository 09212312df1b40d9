/// Makes the answers of the admin address: the head of a request in, a whole answer out.
struct AdminAnswers: Sendable {
  let health: HealthState
  let metrics: MetricsRegistry

  private struct Answer {
    var status: String
    var type: String
    var body: String
    var allow: String?
  }

  /// - Parameter head: nil if it was too long.
  func answer(toHead head: [UInt8]?) -> [UInt8] {
    guard let head else {
      return Self.bytes(
        Self.problem(
          "431 Request Header Fields Too Large", code: "head_too_large",
          detail: "A request's head may have at most 8 KiB."))
    }
    let line = head.prefix { $0 != 0x0D && $0 != 0x0A }
    let words = String(decoding: line, as: UTF8.self).split(
      separator: " ", omittingEmptySubsequences: false)
    guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
      return Self.bytes(
        Self.problem("400 Bad Request", code: "bad_request", detail: "The request is not HTTP/1."))
    }
    return Self.bytes(answer(words[0], Self.path(words[1])), isHead: words[0] == "HEAD")
  }

  private func answer(_ method: Substring, _ path: Substring) -> Answer {
    let made: () -> Answer
    switch path {
    case "/health/live":
      made = { Self.health(health.liveJSON()) }
    case "/health/ready":
      made = { Self.health(health.json()) }
    case "/metrics":
      made = {
        Answer(
          status: "200 OK", type: "text/plain; version=0.0.4; charset=utf-8",
          body: metrics.render())
      }
    default:
      return Self.problem(
        "404 Not Found", code: "not_found",
        detail: "The paths are /health/live, /health/ready and /metrics.")
    }
    guard method == "GET" || method == "HEAD" else {
      var refusal = Self.problem(
        "405 Method Not Allowed", code: "method_not_allowed", detail: "Use GET or HEAD.")
      refusal.allow = "GET, HEAD"
      return refusal
    }
    return made()
  }

  private static func health(_ answer: (status: Int, body: String)) -> Answer {
    Answer(
      status: answer.status == 200 ? "200 OK" : "503 Service Unavailable",
      type: "application/json", body: answer.body)
  }

  /// The path without the query. An absolute target has it after its authority.
  private static func path(_ target: Substring) -> Substring {
    var path = target.prefix { $0 != "?" }
    if path.lowercased().hasPrefix("http://") {
      path = path.dropFirst(7).drop { $0 != "/" }
    }
    return path
  }

  private static func problem(_ status: String, code: String, detail: String) -> Answer {
    let number = status.prefix(3)
    return Answer(
      status: status, type: "application/problem+json",
      body: #"{"type":"about:blank","title":"\#(status.dropFirst(4))","status":\#(number),"#
        + #""code":"\#(code)","detail":"\#(detail)"}"#)
  }

  private static func bytes(_ answer: Answer, isHead: Bool = false) -> [UInt8] {
    var head = "HTTP/1.1 \(answer.status)\r\ncontent-type: \(answer.type)\r\n"
    head += "content-length: \(answer.body.utf8.count)\r\ncache-control: no-store\r\n"
    if let allow = answer.allow { head += "allow: \(allow)\r\n" }
    head += "connection: close\r\n\r\n"
    return Array(head.utf8) + (isHead ? [] : Array(answer.body.utf8))
  }
}
