import NIOCore
import NIOHTTP1
import NIOTLS

/// Closes connections whose request does not get finished, and those on which nothing happens any
/// more. An idle timeout alone would be content with a byte now and then.
///
/// The time of a request runs from its first bytes, be they half a header, to its end; that of a
/// TLS session from the connection's first moment to the end of the handshake.
final class RequestDeadline: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart

  private let limit: TimeAmount
  private let idleLimit: TimeAmount
  private let isTLS: Bool
  private var timer: Scheduled<Void>?
  private var idleTimer: Scheduled<Void>?
  /// Closes the connection when the service stops, whatever its client does.
  private var lastTimer: Scheduled<Void>?
  private var lastRead = NIODeadline.now()
  /// Between a request's head and its end.
  private var isWithin = false
  /// Since the last `channelReadComplete`, a whole part came, or TLS's handshake ended.
  private var sawPart = false

  /// How long a connection may stay open when the service stops: for a request that is under way,
  /// and for answers that its client does not read.
  private static let quiescingLimit = TimeAmount.seconds(2)

  init(limit: TimeAmount, idleLimit: TimeAmount, isTLS: Bool) {
    self.limit = limit
    self.idleLimit = idleLimit
    self.isTLS = isTLS
  }

  func channelActive(context: ChannelHandlerContext) {
    lastRead = .now()
    watchIdleness(context.channel)
    if isTLS { start(context) }
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    sawPart = true
    switch unwrapInboundIn(data) {
    case .head: isWithin = true
    case .body: break
    case .end: isWithin = false
    }
    context.fireChannelRead(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    lastRead = .now()
    // Bytes that made no part are the beginning of a header, or of a TLS session. A request that
    // came in one piece needs no timer.
    if isWithin || !sawPart { start(context) } else { stop() }
    sawPart = false
    context.fireChannelReadComplete()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case TLSUserEvent.handshakeCompleted:
      sawPart = true
      stop()
    case is ChannelShouldQuiesceEvent where lastTimer == nil:
      lastTimer = Self.close(context.channel, in: min(limit, Self.quiescingLimit))
    default: break
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    stop()
    idleTimer?.cancel()
    idleTimer = nil
    lastTimer?.cancel()
    lastTimer = nil
    context.fireChannelInactive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard timer == nil else { return }
    timer = Self.close(context.channel, in: limit)
  }

  private func stop() {
    timer?.cancel()
    timer = nil
  }

  private static func close(_ channel: any Channel, in time: TimeAmount) -> Scheduled<Void> {
    channel.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
  }

  /// One timer that looks now and then, instead of one that every request sets again.
  private func watchIdleness(_ channel: any Channel) {
    let loop = channel.eventLoop
    idleTimer = loop.assumeIsolated().scheduleTask(deadline: lastRead + idleLimit) { [self] in
      if .now() >= lastRead + idleLimit {
        channel.close(promise: nil)
      } else {
        watchIdleness(channel)
      }
    }
  }
}
