import Metering

/// The form for the terms of a license, new or existing.
///
/// For an existing license, the form also contains each field's value as it was shown. Only fields
/// that somebody changed are sent, so nobody undoes another person's change.
enum LicenseTermsForm {
  static func new(customer: String?, in context: PageContext) -> Form {
    var form = Form("Register", to: context.basePath + "/licenses", id: "new-license", in: context)
    form.text("license_id", "License id", isRequired: true, placeholder: "lic_…")
    form.text(
      "customer_id", "Customer id", value: customer ?? "", isRequired: true,
      hint: "A customer that does not exist yet is created.", placeholder: "cus_…")
    add(nil, to: &form, context)
    form.text(
      "api_calls", "Limit of calls a period", type: "number", hint: "Leave it empty for no limit.")
    return form
  }

  static func change(
    _ license: LicensePage.License, to action: String, in context: PageContext
  ) -> Form {
    var form = Form("Save", to: action, id: "terms", in: context)
    form.text("customer_id", "Customer id", value: license.customer, isRequired: true)
    form.hide("was.customer_id", license.customer)
    add(license, to: &form, context)
    return form
  }

  private static func add(
    _ license: LicensePage.License?, to form: inout Form, _ context: PageContext
  ) {
    func text(
      _ name: String, _ label: String, _ value: String?, type: String = "text",
      isRequired: Bool = false, hint: String? = nil
    ) {
      form.text(
        name, label, value: value ?? "", type: type, isRequired: isRequired, hint: hint)
      if license != nil { form.hide("was." + name, value ?? "") }
    }
    func lines(_ name: String, _ label: String, _ values: [String]?, hint: String) {
      let value = (values ?? []).joined(separator: "\n")
      form.lines(name, label, value: value, hint: hint)
      if license != nil { form.hide("was." + name, value) }
    }
    text("plan", "Plan", license?.plan, isRequired: true)
    text(
      "expires_at", "Expires on", license.map { UTCTime.day($0.expiresAt) }, type: "date",
      isRequired: true, hint: "At midnight UTC.")
    text(
      "seats", "Seats", license?.seats.map(String.init), type: "number",
      hint: "Leave it empty for no limit.")
    text(
      "billing_anchor_day", "Periods begin on day",
      license.map { String($0.anchorDay) } ?? "1", type: "number",
      hint: "1 to 31; a shorter month begins its period on its last day.")
    form.select(
      "trial", "Trial", value: license?.isTrial == true ? "yes" : "no",
      [("no", "no"), ("yes", "yes, without days of grace")])
    if let license { form.hide("was.trial", license.isTrial ? "yes" : "no") }
    lines(
      "domains", "Domains", license?.domains,
      hint: "One per line. example.com is the name itself, *.example.com is every name below it.")
    lines("features", "Features", license?.features, hint: "One per line.")
  }

}
