import CRdKafka

/// Why the brokers do not let a client do something. Waiting does not help.
package enum AccessRefusal: Sendable, Hashable {
  /// The user name or the password is wrong.
  case credentials
  /// TLS failed. The authority is missing or wrong, the broker asks for a certificate, or the port
  /// has no TLS.
  case certificate
  /// The brokers do not offer the SASL mechanism, or no SASL at all.
  case mechanism
  /// An ACL is missing.
  case permission
}

extension KafkaError {
  /// Nil for every error that may pass by itself or that is about something else.
  ///
  /// If a broker ends the TLS handshake, librdkafka reports a lost connection and describes the
  /// cause only in words. The same is true for a mechanism that the brokers do not offer.
  package var accessRefusal: AccessRefusal? {
    if detail.contains("SSL handshake failed") { return .certificate }
    switch rd_kafka_resp_err_t(code) {
    case RD_KAFKA_RESP_ERR__SSL: return .certificate
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
      return detail.contains("not supported by broker") || detail.contains("mechanism")
        ? .mechanism : .credentials
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED: return .credentials
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM, RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
      return .mechanism
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
      RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
      return .permission
    default: return nil
    }
  }

  /// Whether the cause is a password, a certificate or a missing permission, so that waiting does
  /// not help.
  package var isAccessRefused: Bool { accessRefusal != nil }

  package var isGroupRefused: Bool {
    code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED.rawValue
  }

  /// What the operator can do about a refusal. Nil for other errors.
  package var advice: String? {
    switch accessRefusal {
    case .credentials:
      "check sasl.username and sasl.password in METER_KAFKA_CONFIG_FILE"
    case .certificate:
      "check security.protocol, ssl.ca.location and the client's certificate in "
        + "METER_KAFKA_CONFIG_FILE"
    case .mechanism:
      "check security.protocol and sasl.mechanism in METER_KAFKA_CONFIG_FILE"
    case .permission:
      isGroupRefused
        ? "grant this user Read on the consumer group (an ACL of the brokers)"
        : "grant this user the right that is missing (an ACL of the brokers)"
    case nil: nil
    }
  }

  /// The description, followed by the advice if there is one.
  package var explanation: String { advice.map { "\(self); \($0)" } ?? description }
}
