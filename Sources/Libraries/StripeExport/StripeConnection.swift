import NIOCore
import WebhookDelivery

/// One connection to Stripe with one request at a time.
///
/// The bytes of answers go into `HTTPAnswerReader`, which never traps. The address can be
/// configured, so an answer may come from a stranger.
///
/// `@unchecked Sendable`: all mutable state is used only on the channel's event loop. Every method
/// that others call goes there first.
final class StripeConnection: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  struct TimedOut: Error, CustomStringConvertible {
    let description = "Stripe did not answer in time"
  }

  /// A connection that was used before turned out to be closed before any part of an answer came.
  struct ClosedBeforeUse: Error {}

  /// A page of 100 summaries has 25 KB.
  private static let mostBody = 1 << 20

  private struct Exchange {
    let promise: EventLoopPromise<HTTPAnswerReader>
    let timer: Scheduled<Void>
    var reader = HTTPAnswerReader(
      maximumBodyBytes: StripeConnection.mostBody, keptBytes: StripeConnection.mostBody)
    var hasHeard = false
  }

  private let channel: any Channel
  private var exchange: Exchange?
  private var uses = 0
  private var isOver = false
  private var failure: (any Error)?

  init(_ channel: any Channel) { self.channel = channel }

  var isOpen: Bool { channel.isActive }

  /// Sends a whole request and reads its answer.
  func send(_ request: [UInt8], within time: TimeAmount) async throws -> HTTPAnswerReader {
    let promise = channel.eventLoop.makePromise(of: HTTPAnswerReader.self)
    channel.eventLoop.execute { self.begin(request, promise, time) }
    return try await withTaskCancellationHandler {
      try await promise.futureResult.get()
    } onCancel: {
      cut()
    }
  }

  /// Closes the connection now, even if a request is under way.
  func cut() { channel.eventLoop.execute { self.end(CancellationError()) } }

  private func begin(
    _ request: [UInt8], _ promise: EventLoopPromise<HTTPAnswerReader>, _ time: TimeAmount
  ) {
    guard !isOver, exchange == nil, channel.isActive else {
      let error = failure ?? HTTPAnswerReader.Malformed.endedEarly
      promise.fail(uses > 0 ? ClosedBeforeUse() : error)
      return
    }
    uses += 1
    let timer = channel.eventLoop.scheduleTask(in: time) { self.end(TimedOut()) }
    exchange = Exchange(promise: promise, timer: timer)
    channel.writeAndFlush(ByteBuffer(bytes: request)).whenFailure { self.end($0) }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard var current = exchange else { return end(HTTPAnswerReader.Malformed.notHTTP) }
    current.hasHeard = true
    do {
      let progress = try current.reader.take(unwrapInboundIn(data).readableBytesView)
      exchange = current
      if case .finished(let isReusable) = progress { finish(current, isReusable) }
    } catch {
      end(error)
    }
  }

  private func finish(_ done: Exchange, _ isReusable: Bool) {
    exchange = nil
    done.timer.cancel()
    if !isReusable {
      isOver = true
      channel.close(promise: nil)
    }
    done.promise.succeed(done.reader)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { end(error) }

  func channelInactive(context: ChannelHandlerContext) {
    end(HTTPAnswerReader.Malformed.endedEarly)
    context.fireChannelInactive()
  }

  private func end(_ error: any Error) {
    if failure == nil { failure = error }
    // This comes before the close, which calls `channelInactive` and so this function again.
    let current = exchange
    exchange = nil
    if !isOver {
      isOver = true
      channel.close(promise: nil)
    }
    guard let ended = current else { return }
    ended.timer.cancel()
    if ended.reader.status != nil, !(error is CancellationError) {
      // The status says what the answer means, even if its body is incomplete.
      ended.promise.succeed(ended.reader)
    } else {
      ended.promise.fail(
        uses > 1 && !ended.hasHeard && !(error is TimedOut) ? ClosedBeforeUse() : error)
    }
  }
}
