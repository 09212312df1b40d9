import Administration
import KafkaTransport
import Metering
import ServiceRuntime

extension APISettings {
  /// The rules that a webhook endpoint must keep.
  var endpointRules: EndpointRules {
    EndpointRules(policy: webhookPolicy, allowsHTTP: allowsHTTPEndpoints, box: box)
  }

  /// The addresses of pages. Nil if `METER_PUBLIC_URL` is not set.
  var pages: PageAddresses? {
    publicURL.map { PageAddresses(publicURL: $0, basePath: basePath) }
  }

  /// The scheme by which clients reach the listener itself.
  var scheme: String { tls == nil ? "http" : "https" }

  /// The address of a page. Without `METER_PUBLIC_URL` it is the address that the service listens
  /// on. The header `Host` is not used, because a stranger could make a link lead anywhere with it.
  func page(_ path: String) -> String {
    (pages ?? PageAddresses(publicURL: "\(scheme)://\(bind)", basePath: basePath)).page(path)
  }

  /// The librdkafka settings for any client. Nil if no brokers are configured.
  func kafka() throws -> KafkaConfiguration? {
    try kafkaBrokers.map {
      try KafkaConfiguration(brokers: $0, propertiesFile: kafkaConfigFile)
    }
  }
}
