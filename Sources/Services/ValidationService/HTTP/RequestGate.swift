import NIOCore

/// Passes a connection's bytes to the decoder a few at a time, and none while the connection is not
/// being read.
///
/// The decoder turns everything that it gets into requests. One read can contain hundreds of tiny
/// requests, and their heads take twenty times the memory of their bytes. Therefore bytes that are
/// not needed yet wait here, at most as many as one read returns.
final class RequestGate: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let connection: HTTPConnectionHandler
  private var context: ChannelHandlerContext?
  private var pending = ByteBuffer()
  private var isPassing = false
  private var hasInputEnded = false

  private static let sliceBytes = 1_024

  init(connection: HTTPConnectionHandler) { self.connection = connection }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) {
    self.context = nil
    pending = ByteBuffer()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    if pending.readableBytes == 0 {
      pending = bytes
    } else {
      pending.writeBuffer(&bytes)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) { pass(context) }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed = event, pending.readableBytes > 0 {
      hasInputEnded = true
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  /// The connection takes requests again.
  func resume() {
    if let context, pending.readableBytes > 0 { pass(context) }
  }

  private func pass(_ context: ChannelHandlerContext) {
    guard !isPassing else { return }
    isPassing = true
    var hasPassed = false
    if connection.isClosed { pending = ByteBuffer() }
    while pending.readableBytes > 0, connection.takesMore {
      // A body is passed on whole, because it creates no requests.
      let count = max(Self.sliceBytes, connection.bodyBytesExpected)
      hasPassed = true
      if count < pending.readableBytes, let slice = pending.readSlice(length: count) {
        context.fireChannelRead(wrapInboundOut(slice))
      } else {
        let rest = pending
        pending = ByteBuffer()
        context.fireChannelRead(wrapInboundOut(rest))
      }
    }
    isPassing = false
    let isEmpty = pending.readableBytes == 0
    if hasPassed || isEmpty { context.fireChannelReadComplete() }
    if isEmpty, hasInputEnded {
      hasInputEnded = false
      context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }
  }
}
