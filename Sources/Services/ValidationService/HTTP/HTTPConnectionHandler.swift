import Dispatch
import HTTPListening
import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization

/// Handles one connection: assembles requests, has them answered in order, and writes the answers.
///
/// A request that can be answered from memory is answered in the call that brought its last byte,
/// without a task, a hop to another thread or a second write. While an answer waits for something,
/// or the client does not read what is written, nothing is read from the connection. Whatever has
/// already arrived stays in `waiting`.
final class HTTPConnectionHandler: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = Never
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum Phase {
    /// Between two requests.
    case idle
    /// A request's body is arriving.
    case reading
    /// Somebody is deciding whether the body may be sent.
    case asking
    /// The request was answered before its end. The rest of it is dropped.
    case discarding
    /// The answer waits for something.
    case answering
    /// Nothing more is read or answered.
    case closed
  }

  private enum Event {
    case part(HTTPServerRequestPart)
    /// The bytes are not HTTP, or exceed what is read.
    case malformed(HTTPParserError)
    case inputClosed
  }

  private let api: ValidationAPI
  private let memory: BodyMemory
  /// The connection's place in the table; nil if there is no table.
  private let entry: ConnectionTable.Entry?
  /// Holds the bytes that are not decoded yet.
  private weak var gate: RequestGate?
  private var phase = Phase.idle
  private var head: HTTPRequestHead?
  private var fields = RequestFields()
  private var path = ""
  private var body: [UInt8] = []
  /// The bytes taken from `memory`, and their owner.
  private var bytesHeld = 0
  private var bodyOwner: AddressGroup?
  private var peer: ClientAddress.Client?
  private var waiting = CircularBuffer<Event>()
  private var output = ByteBuffer()
  private var isReadHeld = false
  private var isResuming = false
  private var isWritable = true
  private var isQuiescing = false
  /// The task that an answer waits for. It is canceled if it only delays the answer.
  private var waitingTask: Task<Void, Never>?

  /// Answers to pipelined requests are written together up to about this many bytes.
  private static let outputBytes = 16_384
  /// The capacity of a body buffer that is kept for the next body.
  private static let keptBodyBytes = 4_096

  init(api: ValidationAPI, memory: BodyMemory, entry: ConnectionTable.Entry? = nil) {
    self.api = api
    self.memory = memory
    self.entry = entry
  }

  /// Makes the gate in front of this connection's decoder.
  func makeGate() -> RequestGate {
    let made = RequestGate(connection: self)
    gate = made
    return made
  }

  // MARK: What the gate asks

  /// Whether a request that is decoded now would be taken immediately.
  var takesMore: Bool { waiting.isEmpty && isWritable && phase != .answering && phase != .asking }

  var isClosed: Bool { phase == .closed }

  /// How much of the current body has not arrived; 0 if its length is not known.
  var bodyBytesExpected: Int {
    phase == .reading ? max((fields.contentLength ?? 0) - body.count, 0) : 0
  }

  // MARK: Events

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    receive(.part(unwrapInboundIn(data)), context)
  }

  func channelReadComplete(context: ChannelHandlerContext) { send(context) }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if let error = error as? HTTPParserError {
      receive(.malformed(error), context)
      send(context)
    } else {
      // The TLS handshake failed or the connection broke. Nobody can be told.
      context.close(promise: nil)
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case ChannelEvent.inputClosed:
      receive(.inputClosed, context)
      send(context)
    case is ChannelShouldQuiesceEvent:
      isQuiescing = true
      // Requests that wait because of a rate limit are answered now.
      waitingTask?.cancel()
      if phase == .idle { close(context) }
    case is ConnectionTable.MakeRoom:
      isQuiescing = true
      // If output is left, the client does not read it. The service does not wait for that.
      if phase == .idle || phase == .closed { context.close(promise: nil) }
    default: break
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWritable = context.channel.isWritable
    resume(context)
  }

  func read(context: ChannelHandlerContext) {
    if isHeld { isReadHeld = true } else { context.read() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    phase = .closed
    waiting.removeAll()
    releaseBody()
  }

  // MARK: In order

  private var isHeld: Bool { phase == .answering || phase == .asking || !isWritable }

  private func receive(_ event: Event, _ context: ChannelHandlerContext) {
    if waiting.isEmpty, !isHeld { take(event, context) } else { waiting.append(event) }
  }

  /// Goes on with what arrived while an answer waited or could not be written. It is a loop,
  /// because writing may complete the thing that was waited for.
  private func resume(_ context: ChannelHandlerContext) {
    guard !isResuming else { return }
    isResuming = true
    repeat {
      while !isHeld, let event = waiting.popFirst() { take(event, context) }
      send(context)
    } while !isHeld && !waiting.isEmpty
    isResuming = false
    gate?.resume()
    if isReadHeld, !isHeld {
      isReadHeld = false
      context.read()
    }
  }

  private func take(_ event: Event, _ context: ChannelHandlerContext) {
    switch (phase, event) {
    case (.closed, _): break
    case (.idle, .part(.head(let head))): begin(head, context)
    case (.reading, .part(.body(let part))): add(part, context)
    case (.reading, .part(.end)): answer(context)
    case (.discarding, .part(.body)): break
    case (.discarding, .part(.end)): end(context)
    case (.idle, .malformed(let error)), (.reading, .malformed(let error)):
      if phase == .idle { (head, path) = (nil, "") }
      refuse(Problem(error), context, isLast: true)
    default: close(context)
    }
  }

  // MARK: A request

  private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    fields = RequestFields(head.headers)
    path = Self.path(head.uri)
    self.head = head
    phase = .reading
    entry?.isBusy.store(true, ordering: .relaxed)
    if let problem = Problem(head.version, fields) {
      return refuse(problem, context, isLast: true)
    }
    if let length = fields.contentLength, length > ValidationAPI.maximumBytes(path) {
      // A client that asked whether to send the body, and is refused, may send the next request
      // instead of it.
      return refuse(
        .tooLarge(ValidationAPI.maximumBytes(path)), context, isLast: expectsContinue(head))
    }
    // Small bodies are not worth the question.
    if head.method == .POST, fields.contentLength ?? .max > BodyMemory.freeBytes {
      ask(head, context)
    } else {
      letBodyCome(head)
    }
  }

  /// Asks whether a large body may be sent, before room is reserved for it.
  private func ask(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    switch api.admission(path, fields) {
    case .granted: letBodyCome(head)
    case .refused(let problem): refuse(problem, context, isLast: expectsContinue(head))
    case .later(let admission):
      phase = .asking
      let promise = context.eventLoop.makePromise(of: Problem?.self)
      promise.completeWithTask { await admission() }
      promise.futureResult.assumeIsolated().whenSuccess { [self] problem in
        guard phase == .asking else { return }
        phase = .reading
        if let problem {
          refuse(problem, context, isLast: expectsContinue(head))
        } else {
          letBodyCome(head)
        }
        resume(context)
      }
    }
  }

  private func letBodyCome(_ head: HTTPRequestHead) {
    if expectsContinue(head) { output.writeStaticString("HTTP/1.1 100 Continue\r\n\r\n") }
  }

  /// HTTP/1.0 has no `100 Continue`, so a server ignores the expectation (RFC 9110, section
  /// 10.1.1).
  private func expectsContinue(_ head: HTTPRequestHead) -> Bool {
    fields.expectsContinue && head.version.minor >= 1
  }

  private func add(_ part: ByteBuffer, _ context: ChannelHandlerContext) {
    let count = part.readableBytes
    guard body.count + count <= ValidationAPI.maximumBytes(path) else {
      return refuse(.tooLarge(ValidationAPI.maximumBytes(path)), context)
    }
    let needed = body.count + count - BodyMemory.freeBytes - bytesHeld
    if needed > 0 {
      if bytesHeld == 0 { bodyOwner = api.bodyOwner(client(context), fields) }
      guard memory.take(needed, for: bodyOwner) else {
        return refuse(.unavailable("Too many large requests are arriving. Try again."), context)
      }
      bytesHeld += needed
    }
    body.append(contentsOf: part.readableBytesView)
  }

  private func client(_ context: ChannelHandlerContext) -> ClientAddress.Client {
    let client = peer ?? api.client(context.channel.remoteAddress)
    peer = client
    return client
  }

  private func refuse(
    _ problem: Problem, _ context: ChannelHandlerContext, isLast: Bool = false
  ) {
    releaseBody()
    write(api.refusal(problem, path: path), context, isLast: isLast)
    phase = .discarding
    if isLast { close(context) }
  }

  private func answer(_ context: ChannelHandlerContext) {
    let request = APIRequest(
      method: head?.method ?? .GET, path: path, fields: fields, body: body, peer: client(context),
      received: DispatchTime.now().uptimeNanoseconds)
    switch api.reply(to: request) {
    case .now(let answer):
      write(answer, context)
      end(context)
    case .later(let answer):
      phase = .answering
      let promise = context.eventLoop.makePromise(of: APIAnswer.self)
      waitingTask = promise.completeWithTask { await answer() }
      if isQuiescing { waitingTask?.cancel() }
      promise.futureResult.assumeIsolated().whenSuccess { [self] answer in
        waitingTask = nil
        guard phase == .answering else { return }
        write(answer, context)
        end(context)
        resume(context)
      }
    }
  }

  /// Finishes an answered request.
  private func end(_ context: ChannelHandlerContext) {
    let isLast = closesBehind
    head = nil
    releaseBody()
    phase = .idle
    entry?.isBusy.store(false, ordering: .relaxed)
    entry?.wasUsed.store(true, ordering: .relaxed)
    if isLast { close(context) }
  }

  private var closesBehind: Bool {
    guard let head else { return true }
    return isQuiescing || !head.isKeepAlive || fields.asksForUpgrade || head.method == .CONNECT
  }

  private func releaseBody() {
    memory.give(bytesHeld, of: bodyOwner)
    bytesHeld = 0
    body.removeAll(keepingCapacity: body.capacity <= Self.keptBodyBytes)
  }

  /// Returns the path of `/path?query`, or of the absolute form, which servers must accept too.
  private static func path(_ uri: String) -> String {
    if !uri.utf8.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }),
      uri.utf8.first == UInt8(ascii: "/")
    {
      return uri
    }
    var rest = uri.prefix { $0 != "?" && $0 != "#" }
    if rest.first != "/", let scheme = rest.firstRange(of: "://") {
      rest = rest[scheme.upperBound...].drop { $0 != "/" }
    }
    return rest.isEmpty ? "/" : String(rest)
  }

  // MARK: Writing

  private func write(
    _ answer: APIAnswer, _ context: ChannelHandlerContext, isLast: Bool = false
  ) {
    var connection: String?
    if isLast || closesBehind {
      connection = "close"
    } else if let head, head.version.minor == 0 {
      connection = "keep-alive"
    }
    answer.write(
      to: &output, isHead: head?.method == .HEAD, connection: connection,
      now: WallClock.milliseconds)
    // Writing also shows whether the client still reads.
    if output.readableBytes > Self.outputBytes { send(context) }
  }

  private func send(_ context: ChannelHandlerContext) {
    guard output.readableBytes > 0 else { return }
    let bytes = output
    output = ByteBuffer()
    context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
  }

  private func close(_ context: ChannelHandlerContext) {
    phase = .closed
    // The connection now only waits for its client to read, and may be closed to make room.
    entry?.isBusy.store(false, ordering: .relaxed)
    waiting.removeAll()
    releaseBody()
    let bytes = output
    output = ByteBuffer()
    context.writeAndFlush(wrapOutboundOut(bytes)).assumeIsolated().whenComplete { _ in
      context.close(promise: nil)
    }
  }
}
