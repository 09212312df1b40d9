import NIOCore
import NIOHTTP1
import NIOTLS

/// Closes connections whose request takes too long, and those that are idle. An idle timeout alone
/// would accept one byte now and then.
///
/// The time of a request runs from its first byte, even if that is only half a header, to its end.
/// The time of a TLS handshake begins when the connection opens.
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
  /// A request's head has arrived, but not its end.
  private var isWithin = false
  /// A complete part has arrived, or the TLS handshake has ended, since the last
  /// `channelReadComplete`.
  private var sawPart = false

  /// How long a connection may stay open after the service was stopped. This time is for requests
  /// in progress, and for answers that the client does not read.
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
    // Bytes that completed no part are the beginning of a header or of a TLS handshake. A request
    // that arrived in one piece needs no timer.
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

  /// One timer checks periodically. Resetting a timer with every request would cost more.
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
