import HTTPTypes
import NIOCore
import NIOHTTPTypes

/// Closes connections whose request does not get finished: an idle timeout alone is content with a byte now and then.
///
/// The time runs from a request's first bytes, be they half a header, to its end.
final class RequestDeadline: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart

  private let limit: TimeAmount
  private var timer: Scheduled<Void>?
  /// Between a request's head and its end.
  private var isWithin = false
  /// Since the last `channelReadComplete`, a whole part came.
  private var sawPart = false

  init(limit: TimeAmount) { self.limit = limit }

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
    // Bytes that made no part are the beginning of a header, or of a TLS session. A request that came in one piece needs no timer.
    if isWithin || !sawPart { start(context) } else { stop() }
    sawPart = false
    context.fireChannelReadComplete()
  }

  func channelInactive(context: ChannelHandlerContext) {
    stop()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) { stop() }

  private func start(_ context: ChannelHandlerContext) {
    guard timer == nil else { return }
    let channel = context.channel
    timer = context.eventLoop.scheduleTask(in: limit) { channel.close(promise: nil) }
  }

  private func stop() {
    timer?.cancel()
    timer = nil
  }
}
