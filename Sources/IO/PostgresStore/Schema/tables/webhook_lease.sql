create sequence webhook_lease cycle;
