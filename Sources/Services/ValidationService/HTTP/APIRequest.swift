import HTTPListening
import NIOHTTP1

/// A request that came in whole.
struct APIRequest: Sendable {
  var method: HTTPMethod
  /// Without query.
  var path: String
  var fields: RequestFields
  var body: [UInt8]
  /// The other end of the connection.
  var peer: ClientAddress.Client
  /// When its last byte was there, in nanoseconds of `Uptime`.
  var received: UInt64
}
