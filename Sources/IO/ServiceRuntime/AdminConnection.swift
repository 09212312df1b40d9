import Dispatch
import NIOCore
import Synchronization

/// The open connections, oldest first.
final class AdminConnections: Sendable {
  private let maximum: Int
  private let open = Mutex<[any Channel]>([])

  init(maximum: Int) { self.maximum = maximum }

  /// If there are too many, the oldest one is closed, because it has had its time.
  func admit(_ channel: any Channel) {
    let oldest = open.withLock { open -> (any Channel)? in
      open.append(channel)
      return open.count > maximum ? open.removeFirst() : nil
    }
    oldest?.close(promise: nil)
    channel.closeFuture.whenComplete { _ in
      self.open.withLock { $0.removeAll { $0 === channel } }
    }
  }

  /// Returns when all connections have ended, or after a second.
  func drain() async {
    for _ in 0..<100 where open.withLock({ !$0.isEmpty }) {
      // Cancellation cuts the wait short. The remaining connections are closed with their event
      // loop.
      do { try await Task.sleep(for: .milliseconds(10)) } catch { return }
    }
  }
}

/// One connection, which reads a head, has it answered, and ends.
///
/// `@unchecked Sendable`: the mutable state is touched only on the channel's event loop, and the
/// answer returns there.
final class AdminConnection: ChannelInboundHandler, @unchecked Sendable {
  typealias InboundIn = ByteBuffer

  private static let maximumHeadBytes = 8_192
  /// The time for the peer to read the answer and close. A reset before that would lose the answer.
  private static let lingerMilliseconds: Int64 = 1_000

  private let channel: any Channel
  private let answers: AdminAnswers
  private let queue: DispatchQueue
  private var head: [UInt8] = []
  private var isAnswered = false
  private var deadline: Scheduled<Void>?

  init(channel: any Channel, answers: AdminAnswers, queue: DispatchQueue) {
    self.channel = channel
    self.answers = answers
    self.queue = queue
  }

  func channelActive(context: ChannelHandlerContext) {
    deadline = channel.eventLoop.scheduleTask(in: .seconds(AdminServer.connectionSeconds)) {
      [channel] in channel.close(promise: nil)
    }
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    deadline?.cancel()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    // Bytes after the head are read and dropped, so that the peer can send them.
    if isAnswered { return }
    head.append(contentsOf: unwrapInboundIn(data).readableBytesView)
    let end = Self.endOfHead(head)
    if let end { head.removeSubrange(end...) }
    guard end != nil || head.count > Self.maximumHeadBytes else { return }
    isAnswered = true
    let request = head.count > Self.maximumHeadBytes ? nil : head
    head = []
    queue.async {
      let bytes = self.answers.answer(toHead: request)
      self.channel.eventLoop.execute { self.send(bytes) }
    }
  }

  private func send(_ bytes: [UInt8]) {
    channel.writeAndFlush(ByteBuffer(bytes: bytes)).whenComplete { [channel] _ in
      channel.close(mode: .output, promise: nil)
      channel.eventLoop.scheduleTask(in: .milliseconds(Self.lingerMilliseconds)) {
        channel.close(promise: nil)
      }
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    context.close(promise: nil)
  }

  /// The position of the empty line. Lines may end with a bare LF.
  private static func endOfHead(_ bytes: [UInt8]) -> Int? {
    for (index, byte) in bytes.enumerated() where byte == UInt8(ascii: "\n") {
      let rest = bytes[(index + 1)...]
      if rest.first == UInt8(ascii: "\n") || rest.starts(with: [0x0D, 0x0A]) { return index }
    }
    return nil
  }
}
