import NIOCore
import NIOHTTP1
import ServiceRuntime
import Synchronization

/// The listener's connections: when one too many comes, the one that has been idle longest goes.
final class OpenConnections: Sendable {
  private struct Entry {
    let channel: any Channel
    var isBusy = false
    /// Counts up with every change: the smallest is the oldest.
    var since: Int
  }

  private struct State {
    var entries: [ObjectIdentifier: Entry] = [:]
    var clock = 0
    var displaced = 0
    var refused = 0
  }

  private let state = Mutex(State())
  let maximum: Int

  /// Beyond these there is no memory for what they ask.
  private static let most = 20_000

  init(descriptors: Int, metrics: MetricsRegistry) {
    maximum = max(8, min(descriptors, Self.most))
    let open = metrics.gauge("meter_http_connections", help: "Connections that are open.")
    let displaced = metrics.copiedCounter(
      "meter_http_connections_displaced_total",
      help: "Idle connections that were closed to make room for new ones.")
    let refused = metrics.copiedCounter(
      "meter_http_connections_refused_total",
      help: "Connections that were closed because all others had a request under way.")
    metrics.onScrape { [self] in
      let now = state.withLock { ($0.entries.count, $0.displaced, $0.refused) }
      open.set(now.0)
      displaced.set(Double(now.1))
      refused.set(Double(now.2))
    }
  }

  /// Gives a connection its place; closes another for it, or itself where none is idle.
  func admit(_ channel: any Channel) {
    let victim = state.withLock { state -> (any Channel)? in
      var victim: (any Channel)?
      if state.entries.count >= maximum {
        guard
          let oldest = state.entries.filter({ !$0.value.isBusy }).min(by: {
            $0.value.since < $1.value.since
          })
        else {
          state.refused += 1
          return channel
        }
        state.entries[oldest.key] = nil
        state.displaced += 1
        victim = oldest.value.channel
      }
      state.clock += 1
      state.entries[ObjectIdentifier(channel)] = Entry(channel: channel, since: state.clock)
      return victim
    }
    victim?.close(promise: nil)
  }

  func note(_ channel: any Channel, isBusy: Bool) {
    state.withLock { state in
      state.clock += 1
      state.entries[ObjectIdentifier(channel)]?.isBusy = isBusy
      state.entries[ObjectIdentifier(channel)]?.since = state.clock
    }
  }

  func leave(_ channel: any Channel) {
    state.withLock { $0.entries[ObjectIdentifier(channel)] = nil }
  }
}

/// Closes a connection whose request does not come in, or whose answer is not taken. An idle timeout
/// alone would be content with a byte now and then.
///
/// The time of a request runs from its first bytes, though they are half a header, to its end.
final class ConnectionGuard: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  private let table: OpenConnections
  private let requestLimit: TimeAmount
  private var requestTimer: Scheduled<Void>?
  private var stallTimer: Scheduled<Void>?
  private var lastTimer: Scheduled<Void>?
  /// Between a request's head and its end.
  private var isWithin = false
  /// Since the last `channelReadComplete` a whole part came.
  private var sawPart = false
  /// Requests whose answers have not ended.
  private var open = 0

  /// How long a client may take nothing of its answer.
  private static let stallLimit = TimeAmount.seconds(60)
  /// How long a request may go on when the service stops.
  private static let quiescingLimit = TimeAmount.seconds(5)

  init(table: OpenConnections, requestLimit: TimeAmount) {
    self.table = table
    self.requestLimit = requestLimit
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    table.admit(channel)
    channel.closeFuture.whenComplete { [table] _ in table.leave(channel) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    sawPart = true
    switch unwrapInboundIn(data) {
    case .head:
      isWithin = true
      open += 1
      table.note(context.channel, isBusy: true)
    case .body: break
    case .end: isWithin = false
    }
    context.fireChannelRead(data)
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if isWithin || !sawPart {
      if requestTimer == nil { requestTimer = Self.close(context.channel, in: requestLimit) }
    } else {
      stopRequestTimer()
    }
    sawPart = false
    context.fireChannelReadComplete()
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    if case .end = unwrapOutboundIn(data) {
      open -= 1
      if open <= 0 { table.note(context.channel, isBusy: false) }
    }
    context.write(data, promise: promise)
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    stallTimer?.cancel()
    stallTimer = context.channel.isWritable ? nil : Self.close(context.channel, in: Self.stallLimit)
    context.fireChannelWritabilityChanged()
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is ChannelShouldQuiesceEvent, lastTimer == nil {
      lastTimer = Self.close(context.channel, in: Self.quiescingLimit)
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    stopRequestTimer()
    stallTimer?.cancel()
    lastTimer?.cancel()
    context.fireChannelInactive()
  }

  private func stopRequestTimer() {
    requestTimer?.cancel()
    requestTimer = nil
  }

  private static func close(_ channel: any Channel, in time: TimeAmount) -> Scheduled<Void> {
    channel.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
  }
}
