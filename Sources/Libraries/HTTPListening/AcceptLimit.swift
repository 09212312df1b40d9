package import NIOCore

/// Holds up the listener while as many connections are open as there are descriptors for.
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
