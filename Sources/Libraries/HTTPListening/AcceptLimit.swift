package import NIOCore

/// Pauses the listener while there are no descriptors for more connections.
package final class AcceptLimit: ChannelDuplexHandler {
  package typealias InboundIn = any Channel
  package typealias InboundOut = any Channel
  package typealias OutboundIn = Never

  private let table: ConnectionTable

  package init(table: ConnectionTable) { self.table = table }

  package func read(context: ChannelHandlerContext) {
    if table.mayAccept() { context.read() }
  }

  package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let listener = context.channel
    table.opened()
    unwrapInboundIn(data).closeFuture.whenComplete { [table] _ in
      if table.closed() { listener.read() }
    }
    context.fireChannelRead(data)
  }
}
