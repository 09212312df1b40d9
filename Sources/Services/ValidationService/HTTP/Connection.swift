import Dispatch
import NIOCore
import NIOHTTP1
import ServiceRuntime

/// One connection: puts requests together, has them answered one after the other, and writes the answers.
///
/// What can be answered from memory is answered in the call that brought the request's last byte: no task, no hop to another thread, one
/// write. While an answer waits for something, or its reader does not take what is written, the connection is not read from, and what came
/// already stays in `waiting`.
final class Connection: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = Never
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private enum Phase {
    /// Between requests.
    case idle
    /// A request's body comes in.
    case reading
    /// Answered before its end; what still comes of it is dropped.
    case discarding
    /// The answer waits for something.
    case answering
    /// Nothing more is read or answered.
    case closed
  }

  private enum Event {
    case part(HTTPServerRequestPart)
    /// Not HTTP, or more of it than is read.
    case malformed(HTTPParserError)
    case inputClosed
  }

  private let api: ValidationAPI
  private let memory: BodyMemory
  private var phase = Phase.idle
  private var head: HTTPRequestHead?
  private var fields = RequestFields()
  private var path = ""
  private var body: [UInt8] = []
  /// Of `memory`.
  private var bytesHeld = 0
  private var peer: ClientAddress.Client?
  private var waiting = CircularBuffer<Event>()
  private var output = ByteBuffer()
  private var isReadHeld = false
  private var isResuming = false
  private var isQuiescing = false

  /// Answers of pipelined requests are written together up to about so many bytes.
  private static let outputBytes = 65_536
  /// Room for a body that is kept for the next one.
  private static let keptBodyBytes = 4_096

  init(api: ValidationAPI, memory: BodyMemory) {
    self.api = api
    self.memory = memory
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
      // TLS that is none, or a connection that broke: there is nobody to tell.
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
      if phase == .idle { close(context) }
    default: break
    }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) { resume(context) }

  func read(context: ChannelHandlerContext) {
    if isHeld(context) { isReadHeld = true } else { context.read() }
  }

  func channelInactive(context: ChannelHandlerContext) {
    phase = .closed
    waiting.removeAll()
    releaseBody()
  }

  // MARK: In order

  private func isHeld(_ context: ChannelHandlerContext) -> Bool {
    phase == .answering || !context.channel.isWritable
  }

  private func receive(_ event: Event, _ context: ChannelHandlerContext) {
    if waiting.isEmpty, !isHeld(context) { take(event, context) } else { waiting.append(event) }
  }

  /// Goes on with what came while an answer waited, or could not be written. In a loop: what is written may be what was waited for.
  private func resume(_ context: ChannelHandlerContext) {
    guard !isResuming else { return }
    isResuming = true
    repeat {
      while !isHeld(context), let event = waiting.popFirst() { take(event, context) }
      send(context)
    } while !isHeld(context) && !waiting.isEmpty
    isResuming = false
    if isReadHeld, !isHeld(context) {
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
    if let length = fields.contentLength, length > ValidationAPI.maximumBytes(path) {
      // Who asked whether to send it, and hears no, may send the next request in its place.
      refuse(.tooLarge(ValidationAPI.maximumBytes(path)), context, isLast: fields.expectsContinue)
    } else if fields.expectsContinue {
      output.writeStaticString("HTTP/1.1 100 Continue\r\n\r\n")
    }
  }

  private func add(_ part: ByteBuffer, _ context: ChannelHandlerContext) {
    let count = part.readableBytes
    guard body.count + count <= ValidationAPI.maximumBytes(path) else {
      return refuse(.tooLarge(ValidationAPI.maximumBytes(path)), context)
    }
    guard memory.take(count) else {
      return refuse(.unavailable("Too many requests come in at a time; try again."), context)
    }
    bytesHeld += count
    body.append(contentsOf: part.readableBytesView)
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
    let client = peer ?? api.client(context.channel.remoteAddress)
    peer = client
    let request = APIRequest(
      method: head?.method ?? .GET, path: path, fields: fields, body: body, peer: client,
      received: DispatchTime.now().uptimeNanoseconds)
    switch api.reply(to: request) {
    case .now(let answer):
      write(answer, context)
      end(context)
    case .later(let answer):
      phase = .answering
      let promise = context.eventLoop.makePromise(of: APIAnswer.self)
      promise.completeWithTask { await answer() }
      promise.futureResult.assumeIsolated().whenSuccess { [self] answer in
        guard phase == .answering else { return }
        write(answer, context)
        end(context)
        resume(context)
      }
    }
  }

  /// Behind an answered request.
  private func end(_ context: ChannelHandlerContext) {
    let isLast = closesBehind
    head = nil
    releaseBody()
    phase = .idle
    if isLast { close(context) }
  }

  private var closesBehind: Bool {
    guard let head else { return true }
    return isQuiescing || !head.isKeepAlive || fields.asksForUpgrade || head.method == .CONNECT
  }

  private func releaseBody() {
    memory.give(bytesHeld)
    bytesHeld = 0
    body.removeAll(keepingCapacity: body.capacity <= Self.keptBodyBytes)
  }

  /// Of `/path?query`, or of the absolute form, which servers must take too.
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
    // Also to learn whether the reader still takes it.
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
    waiting.removeAll()
    releaseBody()
    let bytes = output
    output = ByteBuffer()
    context.writeAndFlush(wrapOutboundOut(bytes)).assumeIsolated().whenComplete { _ in
      context.close(promise: nil)
    }
  }
}
