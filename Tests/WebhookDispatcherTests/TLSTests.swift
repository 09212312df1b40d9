import Foundation
import MeteringTestKit
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Testing
import WebhookDelivery
import WebhookDispatcher

/// TLS verifies the name in the URL, although the connection goes to a pinned address.
@Suite struct TLSTests {
  static let hasOpenSSL = FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")

  /// Certificates of a private authority, made for this run.
  struct Authority {
    let folder: String

    init() throws {
      folder = NSTemporaryDirectory() + "metering-tls-" + UUID().uuidString
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      try openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem"
      )
      try openssl(
        "req -newkey rsa:2048 -nodes -subj /CN=hooks.example.test -keyout leaf.key -out leaf.csr")
      try "subjectAltName=DNS:hooks.example.test".write(
        toFile: folder + "/san", atomically: true, encoding: .utf8)
      try openssl(
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out leaf.pem"
      )
    }

    private func openssl(_ arguments: String) throws {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      process.arguments = arguments.split(separator: " ").map(String.init)
      process.currentDirectoryURL = URL(fileURLWithPath: folder)
      process.standardError = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      #expect(process.terminationStatus == 0)
    }

    func serve() async throws -> any Channel {
      let configuration = TLSConfiguration.makeServerConfiguration(
        certificateChain: try NIOSSLCertificate.fromPEMFile(folder + "/leaf.pem").map {
          .certificate($0)
        },
        privateKey: .privateKey(try NIOSSLPrivateKey(file: folder + "/leaf.key", format: .pem)))
      let context = try NIOSSLContext(configuration: configuration)
      return try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            try pipeline.addHandler(NIOSSLServerHandler(context: context))
            try pipeline.configureHTTPServerPipeline()
            try pipeline.addHandler(Answer())
          }
        }.bind(host: "127.0.0.1", port: 0).get()
    }
  }

  private final class Answer: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .end = unwrapInboundIn(data) else { return }
      let head = HTTPResponseHead(
        version: .http1_1, status: .noContent, headers: ["x-served": "tls"])
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
  }

  @Test(
    "The right name and authority succeed; another name, or no trust, is a failure of TLS",
    .enabled(if: TLSTests.hasOpenSSL))
  func verification() async throws {
    let authority = try Authority()
    let server = try await authority.serve()
    let port = try #require(server.localAddress?.port)
    func attempt(_ host: String, trusting: Bool) async throws -> Attempt {
      let box = try SecretBox(base64Key: WebhookClientTests.key)
      let secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
      var settings = WebhookClient.Settings()
      settings.policy = try TargetAddressPolicy(cidrs: "127.0.0.1/32")
      settings.timeoutMilliseconds = 5_000
      if trusting {
        settings.trustRoots = try NIOSSLCertificate.fromPEMFile(authority.folder + "/ca.pem")
      }
      let client = WebhookClient(
        settings: settings, box: box, resolver: WebhookClientTests.ScriptedResolver([["127.0.0.1"]])
      )
      let attempt = await client.attempt(
        WebhookMessage(
          endpoint: "ep", webhookID: "m", url: "https://\(host):\(port)/",
          sealedSecrets: [try box.seal(secret, endpoint: "ep", nonce: Array(0..<12))], body: [],
          retryStep: 0))
      await client.close()
      return attempt
    }
    let right = try await attempt("hooks.example.test", trusting: true)
    #expect(right.failure == nil && right.statusCode == 204, "\(right)")
    let wrongName = try await attempt("other.example.test", trusting: true)
    #expect(wrongName.failure == .tls, "\(wrongName)")
    let untrusted = try await attempt("hooks.example.test", trusting: false)
    #expect(untrusted.failure == .tls, "\(untrusted)")
    try await server.close()
    try FileManager.default.removeItem(atPath: authority.folder)
  }
}
