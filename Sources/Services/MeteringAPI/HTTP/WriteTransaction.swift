import Billing
import Crypto
import Foundation
import HTTPTypes
import Metering
import PostgresStore

/// One change with its transaction and its entries in the audit trail.
struct WriteTransaction {
  let connection: PostgresConnection
  let request: APIRequest

  /// Writes a change to the audit trail in the same transaction. Every write calls it once for each
  /// change.
  func audit(_ change: AuditedChange, status: Int = 200) throws {
    try AuditStore(connection).record(change, by: request.auditContext, status: status)
  }
}

extension APIRequest {
  /// The caller, for stores that write the audit trail themselves.
  var auditContext: AuditContext {
    let (kind, id): (AuditContext.ActorKind, String) =
      switch caller.kind {
      case .nobody: (.service, "metering-api")
      case .token(let id): (.token, id)
      case .pageSession(let id): (.pageSession, id)
      case .portalSession(let id): (.portalSession, id)
      }
    return AuditContext(
      actorKind: kind, actorID: id, requestID: self.id, address: address, userAgent: userAgent)
  }

  /// Runs `body` in one transaction and returns its answer.
  ///
  /// A POST with an `Idempotency-Key` runs once. If the caller sent the key before with the same
  /// path and body, the earlier answer is repeated. With another body the answer is 422. Two
  /// simultaneous requests with one key wait for each other. Only committed answers are remembered,
  /// for a day.
  func write(
    _ body: @escaping @Sendable (WriteTransaction) throws -> APIAnswer
  ) async throws -> APIAnswer {
    let key = try idempotencyKey()
    let request = self
    return try await context.database.write(for: caller.customerID) { connection in
      let transaction = WriteTransaction(connection: connection, request: request)
      guard let key else { return try body(transaction) }
      let store = IdempotencyStore(connection)
      if let earlier = try store.begin(key: key.hash, fingerprint: key.fingerprint) {
        return try key.answer(earlier)
      }
      let answer = try body(transaction)
      try store.finish(key: key.hash, answer: key.seal(answer))
      return answer
    }
  }

  /// The answer of an earlier request with the same `Idempotency-Key`. Writes that need several
  /// transactions ask for it first, and give their own answer in `write`.
  func earlierAnswer() async throws -> APIAnswer? {
    /// Rolls back, which releases the key.
    struct NotYet: Error {}
    guard let key = try idempotencyKey() else { return nil }
    do {
      return try await context.database.write(for: caller.customerID) { connection in
        let store = IdempotencyStore(connection)
        guard let earlier = try store.begin(key: key.hash, fingerprint: key.fingerprint) else {
          throw NotYet()
        }
        return try key.answer(earlier)
      }
    } catch is NotYet {
      return nil
    }
  }

  private func idempotencyKey() throws(Problem) -> IdempotencyKey? {
    guard let name = HTTPField.Name("Idempotency-Key"), route.method == .post else { return nil }
    let values = headers[values: name]
    guard let value = values.first else { return nil }
    guard values.count == 1, (1...255).contains(value.utf8.count) else {
      throw Problem.badParameter(
        "Idempotency-Key", "It must be given once and have 1 to 255 bytes.")
    }
    return IdempotencyKey(
      text: value, caller: caller.name, route: route.path,
      place: parameters.sorted { $0.key < $1.key }.map(\.value), body: body)
  }
}

/// The stored form of a key. Neither the key nor the body nor the answer can be read from it.
///
/// Answers may hold a secret that is shown once. So an answer is sealed with a key that is derived
/// from the client's own key, and PostgreSQL has only a hash of that.
private struct IdempotencyKey: Sendable {
  let hash: [UInt8]
  let fingerprint: [UInt8]
  private let secret: SymmetricKey

  init(text: String, caller: String, route: String, place: [String], body: [UInt8]) {
    func digest(_ parts: [[UInt8]]) -> [UInt8] {
      var hash = SHA256()
      for part in parts {
        hash.update(data: Array("\(part.count):".utf8))
        hash.update(data: part)
      }
      return Array(hash.finalize())
    }
    hash = digest([Array("key".utf8), Array(caller.utf8), Array(text.utf8)])
    fingerprint = digest([Array(route.utf8)] + place.map { Array($0.utf8) } + [body])
    secret = SymmetricKey(data: digest([Array("seal".utf8), Array(caller.utf8), Array(text.utf8)]))
  }

  func seal(_ answer: APIAnswer) throws -> [UInt8] {
    guard let plain = StoredAnswer.bytes(answer) else { return [] }
    return Array(try AES.GCM.seal(plain, using: secret).combined ?? Data())
  }

  func answer(_ earlier: IdempotencyStore.Earlier) throws -> APIAnswer {
    guard earlier.fingerprint == fingerprint else {
      throw Problem(
        .unprocessableContent, "idempotency_mismatch",
        "This Idempotency-Key was sent with a different request before. Use a new one.")
    }
    var answer = StoredAnswer.answer(
      Array(try AES.GCM.open(AES.GCM.SealedBox(combined: earlier.answer), using: secret)))
    if let name = HTTPField.Name("Idempotent-Replayed") { answer.headers[name] = "true" }
    return answer
  }
}
