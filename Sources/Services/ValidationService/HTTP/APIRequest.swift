import HTTPListening
import NIOHTTP1

/// A complete request.
struct APIRequest: Sendable {
  var method: HTTPMethod
  /// The path without its query.
  var path: String
  var fields: RequestFields
  var body: [UInt8]
  /// The other end of the connection.
  var peer: ClientAddress.Client
  /// The time when its last byte arrived, in nanoseconds of `Uptime`.
  var received: UInt64
}
