import Metering

/// The forms that change a license.
enum LicenseForms {
  static func add(
    id: String, _ license: LicensePage.License, to page: inout Page, in context: PageContext
  ) {
    let path = context.url("/licenses/\(PageContext.segment(id))")
    let base = String(path.prefix { $0 != "?" })
    page.add(Heading("Change this license", anchor: "change"))
    page.add(
      Folded(
        "Plan, domains, features and dates",
        [LicenseTermsForm.change(license, to: base + "/terms", in: context)]))
    page.add(Folded("Limits and what happens above them", [limits(license, base, in: context)]))
    if license.status == "active" {
      page.add(
        Folded(
          "Suspend it",
          [
            Paragraph(
              "Validations are refused from the next second on, until the license is resumed."),
            Form("Suspend", to: base + "/suspend", id: "suspend", isDanger: true, in: context),
          ]))
    }
    if license.status == "suspended" {
      page.add(
        Folded(
          "Resume it", isOpen: true,
          [Form("Resume", to: base + "/resume", id: "resume", in: context)]))
    }
    if license.status != "canceled" {
      page.add(
        Folded(
          "Cancel it", isDanger: true,
          [
            Paragraph(
              "A canceled license stays canceled: it cannot be resumed. Its usage and its periods "
                + "are kept."),
            cancel(id, base, in: context),
          ]))
    }
  }

  private static func limits(
    _ license: LicensePage.License, _ base: String, in context: PageContext
  ) -> Form {
    var form = Form("Save", to: base + "/limits", id: "limits", in: context)
    for limit in license.limits {
      form.text(
        "limit.\(limit.meter)", "Limit of \(limit.meter)", value: String(limit.quantity),
        type: "number", hint: "Leave it empty for no limit.")
    }
    form.text("new_meter", "Another meter", placeholder: "exports")
    form.text("new_limit", "Its limit", type: "number")
    form.select(
      "overage_policy", "Above a limit", value: license.overagePolicy,
      [("block", "refuse calls"), ("allow", "let calls go on")])
    form.text(
      "alert_thresholds", "Alerts at these percentages",
      value: license.thresholds.map(String.init).joined(separator: ", "))
    return form
  }

  private static func cancel(_ id: String, _ base: String, in context: PageContext) -> Form {
    var form = Form(
      "Cancel permanently", to: base + "/cancel", id: "cancel", isDanger: true, in: context)
    form.checkbox("confirm", "I want to cancel this license permanently")
    return form
  }
}
