//! Rows that a test about networks or hosts wants to be there, without the use cases that make them.

use postern_control_plane::store::subnets::SubnetRow;
use postern_control_plane::store::vpcs::VpcRow;
use postern_model::id::{
    ConnectionId, EndpointId, HostId, NetworkInterfaceId, SecurityGroupId, ServiceId,
};

use super::Cp;

impl Cp {
    /// A service whose targets are in `vpc`.
    pub async fn seed_service(&self, vpc: &VpcRow) -> ServiceId {
        let id = ServiceId::generate(&mut rand::rng());
        let insert =
            "INSERT INTO endpoint_service (id, owner_id, vpc_id, name, acceptance_required)
                      VALUES ($1, $2, $3, $4, true)";
        sqlx::query(insert)
            .bind(id.to_string())
            .bind(vpc.owner.to_string())
            .bind(vpc.id.to_string())
            .bind(format!("com.amazonaws.vpce.us-east-1.{id}"))
            .execute(&self.pool)
            .await
            .unwrap();
        id
    }

    /// An available endpoint to `service` in `vpc`, with private names when `private_dns` is true.
    pub async fn seed_endpoint(
        &self,
        vpc: &VpcRow,
        service: ServiceId,
        private_dns: bool,
    ) -> EndpointId {
        let id = EndpointId::generate(&mut rand::rng());
        let insert = "INSERT INTO vpc_endpoint (id, connection_id, owner_id, vpc_id, service_id,
                                                state, label, private_dns_enabled, private_dns_name)
                      VALUES ($1, $2, $3, $4, $5, 'available', $6, $7,
                              CASE WHEN $7 THEN 'db.example.com' END)";
        sqlx::query(insert)
            .bind(id.to_string())
            .bind(ConnectionId::generate(&mut rand::rng()).to_string())
            .bind(vpc.owner.to_string())
            .bind(vpc.id.to_string())
            .bind(service.to_string())
            .bind(&id.digits()[..8])
            .bind(private_dns)
            .execute(&self.pool)
            .await
            .unwrap();
        id
    }

    /// Lets an endpoint carry a group.
    pub async fn seed_group(&self, endpoint: EndpointId, group: SecurityGroupId) {
        let insert = "INSERT INTO vpc_endpoint_group (endpoint_id, group_id) VALUES ($1, $2)";
        sqlx::query(insert)
            .bind(endpoint.to_string())
            .bind(group.to_string())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// An interface of an endpoint in `subnet`, on `host` when given.
    pub async fn seed_interface(
        &self,
        endpoint: EndpointId,
        subnet: &SubnetRow,
        host: Option<HostId>,
    ) -> NetworkInterfaceId {
        let id = NetworkInterfaceId::generate(&mut rand::rng());
        let insert = "INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id,
                                                     zone_id, address, host_id)
                      VALUES ($1, $2, $3, $4, $5, $6, $7::inet, $8)";
        sqlx::query(insert)
            .bind(id.to_string())
            .bind(endpoint.to_string())
            .bind(subnet.owner.to_string())
            .bind(subnet.vpc.to_string())
            .bind(subnet.id.to_string())
            .bind(subnet.zone.as_str())
            .bind(subnet.cidr.first_usable().to_string())
            .bind(host.map(|host| host.to_string()))
            .execute(&self.pool)
            .await
            .unwrap();
        id
    }

    /// Marks an endpoint as gone and only still shown, its interfaces let go.
    pub async fn seed_deleted(&self, endpoint: EndpointId) {
        for statement in [
            "DELETE FROM network_interface WHERE endpoint_id = $1",
            "UPDATE vpc_endpoint SET state = 'deleted', deleted_at = now() WHERE id = $1",
        ] {
            sqlx::query(statement).bind(endpoint.to_string()).execute(&self.pool).await.unwrap();
        }
    }

    /// The changes of a host's state so far: generation, kind, object.
    pub async fn changes(&self, host: HostId) -> Vec<(i64, String, String)> {
        let select = "SELECT generation, kind, object_id FROM host_change WHERE host_id = $1
                       ORDER BY generation, kind, object_id";
        sqlx::query_as(select).bind(host.to_string()).fetch_all(&self.pool).await.unwrap()
    }
}
