package import Metering
package import NIOSSL
package import ServiceRuntime

/// The settings of every API listener.
extension Settings {
  /// Reads `METER_TRUSTED_PROXIES`.
  package func trustedProxies() throws(ConfigurationError) -> [AddressRange] {
    var ranges: [AddressRange] = []
    for text in try self[DeclaredSettings.trustedProxies].split(separator: ",") {
      guard let range = AddressRange(text.filter { $0 != " " }) else {
        throw ConfigurationError(
          "METER_TRUSTED_PROXIES must be addresses or ranges, such as 10.0.0.0/8,fd00::/8")
      }
      ranges.append(range)
    }
    return ranges
  }

  /// The TLS context from `METER_TLS_CERT` and `METER_TLS_KEY`. Nil, for plain HTTP, if neither is
  /// set.
  package func listenerTLS() throws(ConfigurationError) -> NIOSSLContext? {
    let certificate = try self[DeclaredSettings.tlsCertificate]
    let key = try self[DeclaredSettings.tlsKey]
    guard certificate != nil || key != nil else { return nil }
    guard let certificate, let key else {
      throw ConfigurationError("METER_TLS_CERT and METER_TLS_KEY must both be set")
    }
    var configuration: TLSConfiguration
    do {
      // The value is PEM, or the path of a PEM file.
      let chain =
        certificate.contains("-----BEGIN")
        ? try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8))
        : try NIOSSLCertificate.fromPEMFile(certificate)
      let privateKey =
        key.contains("-----BEGIN")
        ? try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem)
        : try NIOSSLPrivateKey(file: key, format: .pem)
      configuration = .makeServerConfiguration(
        certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(privateKey))
    } catch {
      throw ConfigurationError(
        "METER_TLS_CERT and METER_TLS_KEY must be a certificate chain and its key in PEM")
    }
    configuration.minimumTLSVersion = .tlsv12
    configuration.applicationProtocols = ["http/1.1"]
    do {
      // A key that does not belong to the certificate is reported here with one line. Otherwise
      // every connection would fail later.
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw ConfigurationError(
        "METER_TLS_KEY does not belong to the certificate in METER_TLS_CERT")
    }
  }
}
