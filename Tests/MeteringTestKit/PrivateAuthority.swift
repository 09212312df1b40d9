import Foundation

/// A test's certificate authority, made by `openssl` in a folder of the server, whose user owns the
/// keys.
package struct PrivateAuthority {
  package let folder: String
  private let server: PrivatePostgres

  /// - Parameter name: the name of the folder, below the server's.
  package init(_ name: String, beside server: PrivatePostgres) throws {
    self.server = server
    folder = server.folder + "/" + name
    try server.run(["mkdir", folder])
    try make("ca", subject: name, [])
  }

  package var certificate: String { folder + "/ca.pem" }

  /// Makes a certificate that the authority has signed, and returns its files.
  package func issue(
    _ subject: String, alternativeName: String? = nil
  ) throws -> (certificate: String, key: String) {
    let options = alternativeName.map { ["-addext", "subjectAltName=\($0)"] } ?? []
    try make(
      subject, subject: subject, options + ["-CA", certificate, "-CAkey", folder + "/ca.key"])
    return (folder + "/\(subject).pem", folder + "/\(subject).key")
  }

  private func make(_ name: String, subject: String, _ options: [String]) throws {
    try server.run(
      [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "2", "-subj", "/CN=\(subject)", "-keyout", folder + "/\(name).key",
        "-out", folder + "/\(name).pem",
      ] + options)
  }
}

extension PrivatePostgres {
  /// Admits the superuser as before, and everybody else only over TLS with a certificate that the
  /// authority has signed for the name of the login.
  package func requireCertificates(of authority: PrivateAuthority) throws {
    let own = try authority.issue("localhost", alternativeName: "DNS:localhost")
    try write(
      ["host all metering 127.0.0.1/32 trust", "hostssl all all 127.0.0.1/32 cert"],
      to: "data/pg_hba.conf")
    try write(
      [
        "ssl = on", "ssl_ca_file = '\(authority.certificate)'",
        "ssl_cert_file = '\(own.certificate)'", "ssl_key_file = '\(own.key)'",
      ], to: "data/postgresql.auto.conf")
    try reload()
  }
}
