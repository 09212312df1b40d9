import HTTPListening
import NIOCore
import NIOHTTP1
import NIOTLS
import Synchronization

/// Closes a connection whose request does not arrive in time, or whose client does not read the
/// answer. An idle timeout alone would accept a byte now and then.
///
/// The time of a request runs from its first bytes to its end. The time of a TLS handshake runs
/// from the beginning of the connection.
final class ConnectionGuard: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  /// The connection's entry in the table of connections.
  private let entry: ConnectionTable.Entry
  private let requestLimit: TimeAmount
  private let isTLS: Bool
  private var requestTimer: Scheduled<Void>?
  private var stallTimer: Scheduled<Void>?
  private var lastTimer: Scheduled<Void>?
  /// Whether a request's head has arrived and its end has not.
  private var isWithin = false
  /// Whether a whole part arrived, or the TLS handshake ended, since the last
  /// `channelReadComplete`.
  private var sawPart = false
  /// The number of requests whose answers have not ended.
  private var open = 0
  /// Whether another connection takes this one's place. It then closes after the answer that is
  /// under way.
  private var isLeaving = false

  /// How long a client may go without reading any of its answer.
  private static let stallLimit = TimeAmount.seconds(60)
  /// How long a request may go on when the service stops.
  private static let quiescingLimit = TimeAmount.seconds(5)

  init(entry: ConnectionTable.Entry, requestLimit: TimeAmount, isTLS: Bool) {
    self.entry = entry
    self.requestLimit = requestLimit
    self.isTLS = isTLS
  }

  func channelActive(context: ChannelHandlerContext) {
    if isTLS { startRequestTimer(context.channel) }
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    sawPart = true
    switch unwrapInboundIn(data) {
    case .head:
      isWithin = true
      open += 1
      entry.isBusy.store(true, ordering: .relaxed)
    case .body: break
    case .end: isWithin = false
    }
    context.fireChannelRead(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if isWithin || !sawPart {
      startRequestTimer(context.channel)
    } else {
      stopRequestTimer()
    }
    sawPart = false
    context.fireChannelReadComplete()
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    var promise = promise
    if case .end = unwrapOutboundIn(data) {
      open -= 1
      if open <= 0 { becomeIdle(context.channel, &promise) }
    }
    context.write(data, promise: promise)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    stallTimer?.cancel()
    stallTimer = context.channel.isWritable ? nil : Self.close(context.channel, in: Self.stallLimit)
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case TLSUserEvent.handshakeCompleted:
      sawPart = true
      stopRequestTimer()
    case is ChannelShouldQuiesceEvent where lastTimer == nil:
      lastTimer = Self.close(context.channel, in: Self.quiescingLimit)
    case is ConnectionTable.MakeRoom:
      isLeaving = true
      if open <= 0 { context.close(promise: nil) }
    default: break
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    stopRequestTimer()
    stallTimer?.cancel()
    lastTimer?.cancel()
    context.fireChannelInactive()
  }

  private func becomeIdle(_ channel: any Channel, _ promise: inout EventLoopPromise<Void>?) {
    entry.wasUsed.store(true, ordering: .relaxed)
    entry.isBusy.store(false, ordering: .relaxed)
    guard isLeaving else { return }
    let written = promise ?? channel.eventLoop.makePromise()
    written.futureResult.whenComplete { _ in channel.close(promise: nil) }
    promise = written
  }

  private func startRequestTimer(_ channel: any Channel) {
    if requestTimer == nil { requestTimer = Self.close(channel, in: requestLimit) }
  }

  private func stopRequestTimer() {
    requestTimer?.cancel()
    requestTimer = nil
  }

  private static func close(_ channel: any Channel, in time: TimeAmount) -> Scheduled<Void> {
    channel.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
  }
}
