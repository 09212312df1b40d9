import HTTPTypes
public import Hummingbird
public import LicenseClient
import NIOCore

/// A request context with the result of the middleware.
public protocol LicenseRequestContext: RemoteAddressRequestContext {
  /// The result, which `LicenseMiddleware` sets before a route runs. The license is valid then.
  var license: LicenseResult? { get set }
}

/// Lets requests through if the license is valid. If it is not, the answer is 403, or 503 while
/// nothing is known about the license, as `application/problem+json`.
///
/// ```swift
/// router.add(middleware: try LicenseMiddleware(client))
/// router.get("report") { _, context in
///   context.license?.features.has("analytics") == true ? "the report" : "not in this plan"
/// }
/// ```
public struct LicenseMiddleware<Context: LicenseRequestContext>: RouterMiddleware {
  private let client: any LicenseValidator
  private let host: RequestHost
  private let onDenied: (@Sendable (Request, LicenseResult) async throws -> Response)?

  /// - Parameters:
  ///   - client: a `LicenseClient`, or a `FakeLicenseClient` in tests.
  ///   - domain: the domain to ask about in place of the request's host.
  ///   - trustedProxies: addresses and ranges, such as `10.0.0.0/8`, whose `X-Forwarded-Host` is
  ///     trusted.
  ///   - onDenied: makes the answer in place of 403 and 503.
  /// - Throws: an error if a proxy is neither an address nor a range.
  public init(
    _ client: any LicenseValidator, domain: String? = nil, trustedProxies: [String] = [],
    onDenied: (@Sendable (Request, LicenseResult) async throws -> Response)? = nil
  ) throws(LicenseClientOptions.Invalid) {
    self.client = client
    host = try RequestHost(domain: domain, trustedProxies: trustedProxies)
    self.onDenied = onDenied
  }

  /// Asks about the request's host, and runs the route if the license is valid.
  public func handle(
    _ request: Request, context: Context,
    next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let forwarded = HTTPField.Name("X-Forwarded-Host").map { request.headers[values: $0] } ?? []
    let result = await client.validate(
      host.domain(
        peer: context.remoteAddress?.ipAddress, host: request.head.authority, forwarded: forwarded))
    guard result.isValid else { return try await refuse(request, result) }
    var context = context
    context.license = result
    return try await next(request, context)
  }

  private func refuse(_ request: Request, _ result: LicenseResult) async throws -> Response {
    if let onDenied { return try await onDenied(request, result) }
    let (status, body) = result.refusal
    return Response(
      status: .init(code: status), headers: [.contentType: "application/problem+json"],
      body: .init(byteBuffer: ByteBuffer(bytes: body)))
  }
}
