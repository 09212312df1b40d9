import Foundation
import NIOCore
import NIOHTTP1

/// Lets the compressor know gzip alone. With several codings to choose from, it takes deflate, which
/// would need an ETag of its own, and it compares names by their case.
final class GzipPreference: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart

  private static let field = "accept-encoding"

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .head(var head) = unwrapInboundIn(data), head.headers.contains(name: Self.field)
    else { return context.fireChannelRead(data) }
    let codings = head.headers[canonicalForm: Self.field]
    head.headers.remove(name: Self.field)
    if Self.acceptsGzip(codings) { head.headers.add(name: Self.field, value: "gzip") }
    context.fireChannelRead(wrapInboundOut(.head(head)))
  }

  /// Whether RFC 9110, section 12.5.3, lets an answer be compressed with gzip.
  static func acceptsGzip(_ codings: [Substring]) -> Bool {
    var others = false
    for coding in codings {
      let parts = coding.split(separator: ";", omittingEmptySubsequences: false)
        .map { $0.trimmingCharacters(in: .whitespaces).lowercased() }
      let isRefused = parts.dropFirst().contains { parameter in
        parameter.hasPrefix("q=") && Double(parameter.dropFirst(2)) == 0
      }
      switch parts[0] {
      case "gzip", "x-gzip": return !isRefused
      case "*": others = !isRefused
      default: continue
      }
    }
    return others
  }
}
