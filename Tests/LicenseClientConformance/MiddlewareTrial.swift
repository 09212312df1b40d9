import HTTPTypes
import Hummingbird
import JSONText
import LicenseClient
import LicenseClientHummingbird
import Logging
import NIOCore
import Synchronization

/// One request through the middleware, with a client that answers as the runner wants.
enum MiddlewareTrial {
  private struct Context: LicenseRequestContext {
    struct Source: RequestContextSource {
      var logger = Logger(label: "conformance", factory: { _ in SwiftLogNoOpLogHandler() })
      var remoteAddress: SocketAddress?
    }

    var coreContext: CoreRequestContextStorage
    let remoteAddress: SocketAddress?
    var license: LicenseResult?

    init(source: Source) {
      coreContext = .init(source: source)
      remoteAddress = source.remoteAddress
    }
  }

  static func run(_ question: Question) async -> [UInt8] {
    do {
      return try await trial(question)
    } catch {
      return JSON.object { $0.member("error", "\(error)") }
    }
  }

  private static func trial(_ question: Question) async throws -> [UInt8] {
    let client: FakeLicenseClient =
      question.boolean("valid")
      ? .valid(features: LicenseFeatures(question.texts("features")))
      : .denied(question.text("code"))
    let router = Router(context: Context.self)
    router.add(
      middleware: try LicenseMiddleware(
        client, domain: question.optional("domain"), trustedProxies: question.texts("trusted")))
    let hasFeature = Mutex<Bool?>(nil)
    router.get("/") { _, context in
      hasFeature.withLock { $0 = context.license?.features.has("analytics") }
      return "the report"
    }
    var head = HTTPRequest(
      method: .get, scheme: "http", authority: question.text("host"), path: "/")
    if let forwarded = question.optional("forwarded"), let name = HTTPField.Name("X-Forwarded-Host")
    {
      head.headerFields[name] = forwarded
    }
    let peer = try SocketAddress(ipAddress: question.text("peer"), port: 1_234)
    let response = try await router.buildResponder().respond(
      to: Request(head: head, body: .init(buffer: ByteBuffer())),
      context: Context(source: .init(remoteAddress: peer)))
    let body = BodyCollector()
    try await response.body.write(body)
    // A page that the route made is not JSON and has no code.
    let members = (try? JSONReader.parse(body.bytes))?.members
    return JSON.object { json in
      json.member("status", Int64(response.status.code))
      json.member("asked", client.asked.first ?? "")
      json.name("feature")
      if let found = hasFeature.withLock({ $0 }) { json.boolean(found) } else { json.null() }
      json.name("code")
      if let code = members?["code"]?.text { json.text(code) } else { json.null() }
    }
  }

  private final class BodyCollector: ResponseBodyWriter {
    private(set) var bytes: [UInt8] = []
    func write(_ buffer: ByteBuffer) async throws { bytes += Array(buffer.readableBytesView) }
    func finish(_ trailingHeaders: HTTPFields?) async throws {}
  }
}
