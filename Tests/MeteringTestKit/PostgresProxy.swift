import Foundation

/// A proxy in front of PostgreSQL. It understands just enough of the frontend protocol (PostgreSQL
/// documentation, 55.7) to do harm at a chosen step of a flush.
package final class PostgresProxy: @unchecked Sendable {
  /// The steps in the order in which a flush goes through them.
  package enum Step: String, CaseIterable, Sendable {
    case beforeCopy
    /// Half of a CopyData message has been forwarded.
    case midCopy
    case afterCopyDone
    case beforeCommit
    /// The whole message from flush_offsets to COMMIT was forwarded, and nobody waits for the
    /// result.
    case commitForwarded
    /// The server has answered, and none of the answer was forwarded.
    case answerLost
    /// Half of the answer was forwarded.
    case midAnswer
  }

  package enum Action: Sendable {
    /// Both sides lose the connection.
    case cut
    /// Nothing passes in either direction for that long.
    case stall(seconds: Double)
    /// Nothing passes in either direction until `release`.
    case hold
    /// Runs the closure, then cuts.
    case run(@Sendable () -> Void)
  }

  private struct Trap {
    var step: Step
    var flushesBefore: Int
    var action: Action
  }

  package let port: Int
  private let target: Int
  private let listener: Int32
  // Everything below is used with its lock held.
  private let condition = NSCondition()
  private var trap: Trap?
  private var hasFired = false
  private var isHeld = false
  private var links: [Link] = []
  private var isClosed = false

  /// - Parameter port: PostgreSQL's port on 127.0.0.1.
  package init(to port: Int) throws {
    target = port
    (listener, self.port) = try TCP.listen()
    Thread.detachNewThread { [weak self, listener] in
      while let client = TCP.accept(listener) {
        guard let self, let server = TCP.connect(port: port) else {
          close(client)
          continue
        }
        self.add(Link(self, client: client, server: server))
      }
      close(listener)
    }
  }

  /// Ends all connections and the listener.
  package func shutDown() {
    condition.lock()
    let wasClosed = isClosed
    isClosed = true
    let all = links
    links = []
    condition.unlock()
    // The thread closes the descriptor then, and its number may be reused from that moment on.
    if !wasClosed { shutdown(listener, Int32(SHUT_RDWR)) }
    release()
    for link in all { link.cut() }
  }

  deinit { if !isClosed { shutdown(listener, Int32(SHUT_RDWR)) } }

  /// The URL of the same database through this proxy.
  package func url(like url: String) -> String {
    url.replacingOccurrences(of: ":\(target)/", with: ":\(port)/")
  }

  /// Does `action` once at that step of a flush, after `flushesBefore` flushes have passed.
  package func arm(_ step: Step, flushesBefore: Int = 0, _ action: Action) {
    condition.lock()
    trap = Trap(step: step, flushesBefore: flushesBefore, action: action)
    hasFired = false
    condition.unlock()
  }

  package func waitUntilFired(seconds: Double = 30) -> Bool {
    let end = Date(timeIntervalSinceNow: seconds)
    condition.lock()
    defer { condition.unlock() }
    while !hasFired, condition.wait(until: end) {}
    return hasFired
  }

  /// Ends a `hold`.
  package func release() {
    condition.lock()
    isHeld = false
    condition.broadcast()
    condition.unlock()
  }

  // MARK: For the links

  private func add(_ link: Link) {
    condition.lock()
    let isClosed = self.isClosed
    links.removeAll { $0.isOver }
    links.append(link)
    condition.unlock()
    if isClosed { return link.cut() }
    link.start()
  }

  /// A flush begins on a link. Returns the step at which something will happen to it.
  fileprivate func beginFlush() -> (Step, Action)? {
    condition.lock()
    defer { condition.unlock() }
    guard let found = trap else { return nil }
    if found.flushesBefore > 0 {
      trap!.flushesBefore -= 1
      return nil
    }
    trap = nil
    return (found.step, found.action)
  }

  fileprivate func fired(hold: Bool) {
    condition.lock()
    hasFired = true
    isHeld = hold
    condition.broadcast()
    condition.unlock()
  }

  fileprivate func waitForRelease() {
    condition.lock()
    while isHeld { condition.wait() }
    condition.unlock()
  }
}

/// One connection through the proxy, with one thread for each direction.
private final class Link: @unchecked Sendable {
  private let proxy: PostgresProxy
  private let client: Int32
  private let server: Int32
  // Everything below is used with its lock held.
  private let condition = NSCondition()
  /// The server's messages go to `answer` instead of the client.
  private var keepsAnswer = false
  private var answer: [UInt8] = []
  private var isStalled = false
  private var isCut = false
  private var threads = 2
  /// Only the frontend's thread uses this.
  private var plan: (step: PostgresProxy.Step, action: PostgresProxy.Action)?

  init(_ proxy: PostgresProxy, client: Int32, server: Int32) {
    self.proxy = proxy
    self.client = client
    self.server = server
  }

  func start() {
    Thread.detachNewThread {
      self.frontend()
      self.end()
    }
    Thread.detachNewThread {
      self.backend()
      self.end()
    }
  }

  var isOver: Bool {
    condition.lock()
    defer { condition.unlock() }
    return threads == 0
  }

  func cut() {
    condition.lock()
    isCut = true
    // Both descriptors are closed once both threads have ended. After that their numbers may be
    // reused.
    if threads > 0 {
      shutdown(client, Int32(SHUT_RDWR))
      shutdown(server, Int32(SHUT_RDWR))
    }
    condition.broadcast()
    condition.unlock()
  }

  private func end() {
    cut()
    condition.lock()
    threads -= 1
    if threads == 0 {
      close(client)
      close(server)
    }
    condition.unlock()
  }

  // MARK: From the client

  private func frontend() {
    // Startup packets have no type. SSLRequest and GSSENCRequest are followed by another one.
    while true {
      guard let head = TCP.read(client, exactly: 4),
        let body = TCP.read(client, exactly: Self.integer(head) - 4),
        TCP.write(server, head + body)
      else { return }
      let code = Self.integer(Array(body.prefix(4)))
      if code != 80_877_103, code != 80_877_104 { break }
    }
    while let head = TCP.read(client, exactly: 5) {
      let length = Self.integer(Array(head[1...])) - 4
      guard let body = length == 0 ? [] : TCP.read(client, exactly: length) else { return }
      guard forward(head[0], body, head + body) else { return }
    }
  }

  /// - Returns: whether the link lives on.
  private func forward(_ type: UInt8, _ body: [UInt8], _ message: [UInt8]) -> Bool {
    if type == UInt8(ascii: "Q"),
      Self.holds(body, "copy usage_pending") || Self.holds(body, "copy detector_state")
    {
      plan = proxy.beginFlush()
    }
    guard let step = plan?.step else { return TCP.write(server, message) }
    switch (step, type) {
    case (.beforeCopy, UInt8(ascii: "Q")):
      return act() && TCP.write(server, message)
    case (.midCopy, UInt8(ascii: "d")):
      let half = message.count / 2
      return TCP.write(server, Array(message[..<half])) && act()
        && TCP.write(server, Array(message[half...]))
    case (.afterCopyDone, UInt8(ascii: "c")):
      return TCP.write(server, message) && act()
    case (.beforeCommit, UInt8(ascii: "P")) where Self.holds(body, "flush_offsets("):
      return act() && TCP.write(server, message)
    case (.commitForwarded, UInt8(ascii: "P")), (.answerLost, UInt8(ascii: "P")),
      (.midAnswer, UInt8(ascii: "P")):
      if Self.holds(body, "flush_offsets(") { keepAnswer(true) }
      return TCP.write(server, message)
    case (.commitForwarded, UInt8(ascii: "S")):
      return TCP.write(server, message) && act() && giveAnswer(from: 0)
    case (.answerLost, UInt8(ascii: "S")):
      return TCP.write(server, message) && waitForAnswer() && act() && giveAnswer(from: 0)
    case (.midAnswer, UInt8(ascii: "S")):
      guard TCP.write(server, message), waitForAnswer() else { return false }
      let half = answerSoFar.count / 2
      return TCP.write(client, Array(answerSoFar[..<half])) && act() && giveAnswer(from: half)
    default:
      return TCP.write(server, message)
    }
  }

  /// - Returns: whether the link lives on.
  private func act() -> Bool {
    guard let action = plan?.action else { return true }
    plan = nil
    switch action {
    case .cut:
      cut()
      proxy.fired(hold: false)
      return false
    case .run(let body):
      body()
      cut()
      proxy.fired(hold: false)
      return false
    case .stall(let seconds):
      stall(true)
      proxy.fired(hold: false)
      Thread.sleep(forTimeInterval: seconds)
    case .hold:
      stall(true)
      proxy.fired(hold: true)
      proxy.waitForRelease()
    }
    stall(false)
    return true
  }

  private func stall(_ value: Bool) {
    condition.lock()
    isStalled = value
    condition.broadcast()
    condition.unlock()
  }

  // MARK: From the server

  private func backend() {
    while let bytes = TCP.read(server, atMost: 65_536) {
      condition.lock()
      while isStalled, !isCut, !keepsAnswer { condition.wait() }
      let isKept = keepsAnswer
      if isKept {
        answer += bytes
        condition.broadcast()
      }
      condition.unlock()
      if !isKept, !TCP.write(client, bytes) { return }
    }
  }

  private func keepAnswer(_ value: Bool) {
    condition.lock()
    keepsAnswer = value
    condition.unlock()
  }

  private var answerSoFar: [UInt8] {
    condition.lock()
    defer { condition.unlock() }
    return answer
  }

  /// Waits for ReadyForQuery.
  private func waitForAnswer() -> Bool {
    condition.lock()
    defer { condition.unlock() }
    while !isCut {
      if answer.suffix(6).starts(with: [UInt8(ascii: "Z"), 0, 0, 0, 5]) { return true }
      condition.wait()
    }
    return false
  }

  private func giveAnswer(from start: Int) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    // This is written with the lock held, so that nothing overtakes it.
    keepsAnswer = false
    let rest = Array(answer[start...])
    answer = []
    return TCP.write(client, rest)
  }

  private static func integer(_ bytes: [UInt8]) -> Int {
    bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
  }

  private static func holds(_ body: [UInt8], _ text: String) -> Bool {
    String(decoding: body, as: UTF8.self).contains(text)
  }
}
