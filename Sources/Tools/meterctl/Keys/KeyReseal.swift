import Administration
import ArgumentParser
import PostgresStore
import ServiceRuntime
import SystemRandom
import WebhookDelivery

/// `meterctl key reseal`: the second step of changing `METER_ENCRYPTION_KEY`.
struct KeyReseal: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reseal",
    abstract:
      "Seal the secrets of webhook endpoints with the first key of METER_ENCRYPTION_KEY.",
    discussion: """
      METER_ENCRYPTION_KEY may hold several keys, separated by commas: the first one seals, and \
      each one opens. To change the key:
        1. Give every dispatcher, API and operator NEW,OLD and restart the dispatchers.
        2. Run meterctl key reseal with NEW,OLD.
        3. When it says that all are sealed with the new key, remove OLD everywhere.
      Each secret is resealed separately. The command can be cut off and run again.
      The exit status is 1 if no key opens one of the secrets.

      Example: METER_ENCRYPTION_KEY=NEW,OLD meterctl key reseal
      """)

  @Flag(help: "Only count, and change nothing.")
  var check = false

  @OptionGroup var output: OutputOptions

  private static let pageSize = 1_000

  private struct Tally {
    var current = 0
    var resealed = 0
    var unopened: [EndpointStore.Secret] = []
  }

  func run() throws {
    let box: SecretBox
    do {
      box = try SecretBox(base64Key: Settings()[DeclaredSettings.encryptionKey])
    } catch let error as SecretBox.Invalid {
      throw Failure("\(error)")
    }
    let connection = try Connections().database("key")
    let store = EndpointStore(connection)
    var tally = Tally()
    var last: Int64 = 0
    while true {
      let page = try store.secrets(after: last, limit: Self.pageSize)
      for secret in page { try take(secret, box, store, &tally) }
      guard page.count == Self.pageSize, let next = page.last?.id else { break }
      last = next
    }
    if !check {
      try AuditStore(connection).record(
        AuditedChange(
          "key.reseal", "encryption_key", "METER_ENCRYPTION_KEY",
          after: #"{"resealed":\#(tally.resealed),"unopened":\#(tally.unopened.count)}"#),
        by: Connections.operatorContext)
    }
    report(tally)
    if !tally.unopened.isEmpty || (check && tally.resealed > 0) { throw Ending.difference }
  }

  private func take(
    _ secret: EndpointStore.Secret, _ box: SecretBox, _ store: EndpointStore, _ tally: inout Tally
  ) throws {
    let opened: (secret: SigningSecret, isFirstKey: Bool)
    do {
      opened = try box.openFindingKey(secret.sealed, endpoint: secret.endpoint)
    } catch {
      tally.unopened.append(secret)
      return
    }
    guard !opened.isFirstKey else {
      tally.current += 1
      return
    }
    tally.resealed += 1
    if check { return }
    let sealed = try box.seal(
      opened.secret, endpoint: secret.endpoint, nonce: SystemRandom.bytes(SecretBox.nonceBytes))
    // A secret that was replaced or deleted meanwhile needs no other seal.
    _ = try store.reseal(secret, with: sealed)
  }

  private func report(_ tally: Tally) {
    let endpoints = tally.unopened.map(\.endpoint)
    var text =
      "\(Terminal.grouped(tally.resealed)) secrets \(check ? "must be" : "were") resealed, "
      + "\(Terminal.grouped(tally.current)) were already sealed with the first key"
    if !endpoints.isEmpty {
      text +=
        "\nno key opens the secrets of \(endpoints.count): "
        + endpoints.prefix(20).map { Terminal.printable($0) }.joined(separator: ", ")
        + "\n(give the key that sealed them, or run: meterctl endpoint rotate-secret)"
    }
    output.print(
      [
        "resealed": .int(check ? 0 : tally.resealed),
        "to_reseal": .int(check ? tally.resealed : 0), "current": .int(tally.current),
        "unopened": .array(endpoints.map { .text($0) }),
      ], text: text)
  }
}
