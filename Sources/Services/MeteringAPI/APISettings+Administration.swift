import Administration
import KafkaTransport
import Metering
import ServiceRuntime

extension APISettings {
  /// What webhook endpoints are judged by.
  var endpointRules: EndpointRules {
    EndpointRules(policy: webhookPolicy, allowsHTTP: allowsHTTPEndpoints, box: box)
  }

  /// Nil where `METER_PUBLIC_URL` is not set.
  var pages: PageAddresses? {
    publicURL.map { PageAddresses(publicURL: $0, basePath: basePath) }
  }

  /// How the listener itself is spoken to.
  var scheme: String { tls == nil ? "http" : "https" }

  /// The address of a page. Without `METER_PUBLIC_URL` it is the one that the service listens on: the
  /// header `Host` is a stranger's word, and a link that follows it could lead anywhere.
  func page(_ path: String) -> String {
    (pages ?? PageAddresses(publicURL: "\(scheme)://\(bind)", basePath: basePath)).page(path)
  }

  /// The librdkafka settings of any client; nil where no brokers are named.
  func kafka() throws -> KafkaConfiguration? {
    try kafkaBrokers.map {
      try KafkaConfiguration(brokers: $0, propertiesFile: kafkaConfigFile)
    }
  }
}
